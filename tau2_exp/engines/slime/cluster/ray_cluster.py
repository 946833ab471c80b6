"""`ray up` and `ray join`: Ray for one run, on one machine or on all nodes of an allocation.

On the first node `ray up FOLDER --nodes N` starts the head, notes in FOLDER/servers/ray-head.json where it is, waits
for all N nodes, and then writes the ready file. On every other node `ray join FOLDER` waits for that note, joins, and
stays until the head goes down; inside SLURM both are tasks of one job, one task a node:

    srun --ntasks-per-node=1 sh -c 'if [ "$SLURM_NODEID" = 0 ]; then …; else python -m tau2_exp ray join FOLDER; fi'

Without SLURM the same two commands on machines that share FOLDER make a cluster too. The environment of these
commands is that of all that Ray runs on their node, secrets included; nothing of it is written down.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.cluster import ray_job, ray_token
from tau2_exp.engines.slime.cluster.network import LOOPBACK, free_ports, interface_of, own_address
from tau2_exp.engines.slime.plan.layout import make_layout
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.system.allocation import Allocation, allocation, is_set
from tau2_exp.system.processes import INNER_GRACE_SECONDS, end, how_it_ended, start, status_of, terminable, undisturbed

HEAD_FILE = "servers/ray-head.json"
POLL_SECONDS = 0.5
TELL_SECONDS = 30.0
RAY = ("python", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
# Any free port in place of Ray's fixed range, so that several clusters can share a machine.
WORKER_PORTS = ("--min-worker-port", "0", "--max-worker-port", "0")
SETTINGS = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Head:
    """The address of a run's Ray head. `key` names the job and its attempt, so that nodes of others do not join."""

    address: str
    key: str


class RayFailed(Exception):
    """Ray did not start, or ended by itself."""


def register(commands: argparse._SubParsersAction) -> None:
    """Add `ray`, with `up`, `join` and `submit`, to a parser's subcommands."""
    command = commands.add_parser("ray", help="Ray for one run, on this machine or on the nodes of an allocation")
    parts = command.add_subparsers(required=True, metavar="up|join|submit")
    ray_job.register(parts)
    up = parts.add_parser("up", help="start Ray's head, wait for all nodes, and run until stopped")
    up.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder")
    up.add_argument("--nodes", type=int, default=1, metavar="N", help="number of nodes, this one included")
    up.add_argument("--gpus", type=int, default=0, metavar="G", help="of this node, for Ray")
    up.add_argument(
        "--ready", type=Path, required=True, metavar="FILE", help="write {url, pid} here once all nodes are up"
    )
    up.add_argument("--seconds", type=float, default=1800.0, help="to wait for all nodes")
    up.set_defaults(run=_up)
    join = parts.add_parser("join", help="join the run's head from another node, and run until it stops")
    join.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder")
    join.add_argument("--gpus", type=int, metavar="G", help="of this node, for Ray; as the run's settings have it")
    join.add_argument("--seconds", type=float, help="to wait for a sign of life from the first node")
    join.set_defaults(run=_join)


def _up(given: argparse.Namespace) -> int:
    return _until_ended(lambda: up(given.folder, given.nodes, given.gpus, given.ready, given.seconds))


def _join(given: argparse.Namespace) -> int:
    return _until_ended(lambda: join(given.folder, given.gpus, given.seconds))


def _until_ended(stay: Callable[[], None]) -> int:
    with terminable():
        try:
            stay()
        except RayFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("ray: ended", flush=True)
    return 0


def up(folder: Path, nodes: int, gpus: int, ready: Path, seconds: float) -> None:
    """Stays until it is interrupted. Raises RayFailed where nodes are missing after `seconds`, or the head ends."""
    place = _place(nodes)
    address = own_address(place.here if place else None) if nodes > 1 else LOOPBACK
    port, dashboard, agent = free_ports(3)
    argv = [*RAY, "--head", f"--node-ip-address={address}", f"--port={port}", f"--num-gpus={gpus}", *WORKER_PORTS]
    argv += [f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    note, url = folder / HEAD_FILE, f"http://{LOOPBACK}:{dashboard}"
    note.parent.mkdir(exist_ok=True)
    settings = SETTINGS | ray_token.settings(folder) | _network(address, nodes)
    with (
        ray_token.fresh_token(folder),
        _ended_with_us(start(argv, settings)) as process,
        _removed(note),
        _removed(ready),
    ):
        write_json(note, encode(Head(f"{address}:{port}", _key(place))))
        _await_nodes(process, url, ray_token.headers(folder), nodes, seconds)
        write_json(ready, {"url": url, "address": f"{address}:{port}", "pid": process.pid})
        print(f"ray: {nodes} node{'s' * (nodes > 1)} up, jobs at {url}", flush=True)
        while (status := status_of(process)) is None:
            time.sleep(POLL_SECONDS)
        raise RayFailed(f"ray: the head {how_it_ended(status)}")


def join(folder: Path, gpus: int | None, seconds: float | None) -> None:
    """Returns when the head has gone down, or the run is finished without one; interrupted, it leaves the cluster.

    Raises RayFailed where the first node gives no sign of life for `seconds` (engine.slime.start_seconds), or where
    Ray fails on this node.
    """
    run, place = Run.open(folder), allocation()
    config = run.config
    head = _await_head(run, _key(place), seconds or config.engine.slime.start_seconds)
    if head is None:
        return
    address = own_address(place.here if place else None)
    (agent,) = free_ports(1)
    argv = [*RAY, f"--address={head.address}", f"--node-ip-address={address}", *WORKER_PORTS]
    gpus = make_layout(config, config.stage).per_node if gpus is None else gpus  # slime counts in nodes of one size
    argv += [f"--num-gpus={gpus}", f"--dashboard-agent-listen-port={agent}"]
    print(f"ray: joining {head.address}", flush=True)
    settings = SETTINGS | ray_token.settings(folder) | _network(address, config.hardware.nodes)
    with _ended_with_us(start(argv, settings)) as process:
        while _read_head(folder) == head:
            if (status := status_of(process)) is not None:
                raise RayFailed(f"ray: this node's part {how_it_ended(status)} while the head is up")
            time.sleep(POLL_SECONDS)
    print("ray: the head has gone down", flush=True)


# ------------------------------------------------------------ waiting


def _await_nodes(
    process: subprocess.Popen[bytes], url: str, headers: dict[str, str], nodes: int, seconds: float
) -> None:
    began = told = time.monotonic()
    while (alive := _alive(url, headers)) < nodes:
        now = time.monotonic()
        if (status := status_of(process)) is not None:
            raise RayFailed(f"ray: the head {how_it_ended(status)}")
        if now - began > seconds:
            raise RayFailed(f"ray: {alive} of {nodes} nodes came up within {seconds:g} s (engine.slime.start_seconds)")
        if now - told > TELL_SECONDS:
            print(f"ray: {alive} of {nodes} nodes after {now - began:.0f} s", flush=True)
            told = now
        time.sleep(POLL_SECONDS)


def _alive(url: str, headers: dict[str, str]) -> int:
    """How many nodes Ray counts; 0 while its dashboard does not answer."""
    import httpx

    try:
        answer = httpx.get(f"{url}/api/v0/nodes", headers=headers, timeout=5.0, trust_env=False)
        nodes = answer.raise_for_status().json()["data"]["result"]["result"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return 0
    return sum(node["state"] == "ALIVE" for node in nodes)


def _await_head(run: Run, key: str, seconds: float) -> Head | None:
    """The head of our own attempt; None where the run was finished without one."""
    began, told = time.time(), time.monotonic()
    while run.status is not RunStatus.finished:
        head = _read_head(run.folder)
        if head is not None and head.key == key:
            return head
        quiet = time.time() - max(began, _last_sign(run.folder))
        if quiet > seconds:
            raise RayFailed(f"ray: no head for job {key}, and for {quiet:.0f} s no sign of the run in {run.folder}")
        if time.monotonic() - told > TELL_SECONDS:
            print(f"ray: waiting for the head of job {key}", flush=True)
            told = time.monotonic()
        time.sleep(POLL_SECONDS)
    return None


def _last_sign(folder: Path) -> float:
    """When the run last wrote something: what comes before Ray, a conversion say, may take its time."""
    written = [folder, *folder.glob("*.json*"), *folder.glob("logs/*"), *folder.glob("servers/*")]
    return max((path.stat().st_mtime for path in written if path.exists()), default=0.0)


def _read_head(folder: Path) -> Head | None:
    try:
        told: Any = json.loads((folder / HEAD_FILE).read_text())
    except FileNotFoundError:
        return None
    return decode(Head, told)


# ------------------------------------------------------------ this node


def _place(nodes: int) -> Allocation | None:
    """This node's place, where several are wanted. Raises ConfigError where the allocation has not as many."""
    place = allocation()
    if place and nodes > 1 and len(place.nodes) != nodes:
        raise ConfigError(f"ray up --nodes {nodes}: job {place.job} has {len(place.nodes)}; ask SLURM for as many")
    return place


def _key(place: Allocation | None) -> str:
    return place.key if place else "without SLURM"


def _network(address: str, nodes: int) -> dict[str, str]:
    """What slime, gloo and NCCL must be told on a node among several; what is set there already stays."""
    if nodes == 1:
        return {}
    settings = {"SLIME_HOST_IP": address}
    if interface := interface_of(address):
        settings |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    return {name: value for name, value in settings.items() if not is_set(name)}


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        with undisturbed():
            end([process], INNER_GRACE_SECONDS)


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Not there before, nor after."""
    path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
