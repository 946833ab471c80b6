"""Ray inside an allocation: two nodes find one another, do a job together, and go down together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import patience
import pytest
from patience import PATIENCE

from tau2_exp.engines.slime.cluster import ray_cluster
from tau2_exp.engines.slime.cluster.network import own_address
from tau2_exp.engines.slime.cluster.ray_cluster import HEAD_FILE, RayFailed
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run
from tau2_exp.system.processes import WITH_CODE
from tests.stages.conftest import make

HERE = Path(__file__).parent
SECRET = "sk-not-to-be-seen"
JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "127.0.0.[2-3]", "SLURM_RESTART_COUNT": "1"}


def ray(*arguments: object, log: Path, **env: str) -> subprocess.Popen[bytes]:
    """`python -m tau2_exp ray …` in a folder of its own, on a node that has a secret in its environment."""
    command = [*WITH_CODE, sys.executable, "-u", "-m", "tau2_exp", "ray", *map(str, arguments)]
    environment = {**os.environ, "A_KEY": SECRET, **env}
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)


def wait_until(reached: Callable[[], bool], *alive: subprocess.Popen[bytes]) -> None:
    def come() -> bool:
        assert all(process.poll() is None for process in alive)
        return reached()

    patience.wait_until(come)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make(tmp_path_factory.mktemp("ray") / "run", "stage=demos")


@pytest.fixture(scope="module")
def rays(run: Run) -> Iterator[Path]:
    """The folder that Ray takes for /tmp/ray; a short name, since its sockets lie there."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        (run.folder.parent / "rays").symlink_to(folder)
        yield Path(folder) / "ray"


@pytest.fixture(scope="module")
def nodes(run: Run, rays: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The head and a worker, each a task of one job of SLURM's; the worker is there first."""
    folder, ready = run.folder, run.folder / "servers/ray.json"
    (folder / "servers").mkdir()
    write_json(folder / HEAD_FILE, {"address": "127.0.0.2:9", "key": "17.0"})  # of the attempt before
    job = {**JOB, "RAY_TMPDIR": str(rays.parent)}
    join = ray("join", folder, "--gpus", 2, log=folder.parent / "join.log", SLURM_NODEID="1", **job)
    up = ray(
        *("up", folder, "--nodes", 2, "--gpus", 2, "--ready", ready, "--seconds", PATIENCE),
        log=folder.parent / "up.log",
        SLURM_NODEID="0",
        **job,
    )
    try:
        wait_until(ready.exists, up, join)
        yield {"up": up, "join": join}
    finally:
        for process in (up, join):
            process.terminate()
        for process in (up, join):
            process.wait(PATIENCE)


@contextmanager
def another_cluster(rays: Path) -> Iterator[None]:
    """What Ray sees where somebody's cluster has come up on the machine since ours did."""
    note = rays / "ray_current_cluster"
    ours = note.read_text()
    note.write_text("127.0.0.9:9")
    argv = ["raylet", "-c", "import time; time.sleep(600)", "--gcs-address=127.0.0.9:9"]
    process = subprocess.Popen(argv, executable=sys.executable)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        note.write_text(ours)


def submitted(run: Run, *arguments: object) -> tuple[int, str]:
    """The status of a job that was followed to its end, and all that was printed."""
    log = run.folder.parent / "job.log"
    with ray("submit", run.folder, *arguments, log=log) as process:
        try:
            return process.wait(PATIENCE), log.read_text()
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"a job that does not end; it said:\n{log.read_text()}\n{rays_own_logs(run)}")


def rays_own_logs(run: Run) -> str:
    """The last lines that each of Ray's processes wrote."""
    folder = run.folder.parent / "rays/ray/session_latest/logs"
    logs = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs)


def test_a_job_runs_on_both_nodes_of_the_allocation(
    run: Run, rays: Path, nodes: dict[str, subprocess.Popen[bytes]]
) -> None:
    with another_cluster(rays):
        status, said = submitted(run, "--", "python3", HERE / "stand_in/where.py", 2)
    assert status == 0 and "ran on 127.0.0.2 127.0.0.3" in said, said
    head = json.loads((run.folder / HEAD_FILE).read_text())
    assert head["key"] == "17.1" and head["address"].startswith("127.0.0.2:")
    assert json.loads((run.folder / "servers/ray.json").read_text())["url"].startswith("http://127.0.0.1:")


def test_a_jobs_settings_folder_python_and_status_are_the_callers(
    run: Run, nodes: dict[str, subprocess.Popen[bytes]]
) -> None:
    code = "import os, sys; print(os.getcwd(), sys.executable, os.environ['A'], len(os.environ['A_KEY'])); sys.exit(7)"
    status, said = submitted(run, "--env", "A=b=c d", "--", "python3", "-c", code)
    assert status == 7 and f"{run.folder.parent} {sys.executable} b=c d {len(SECRET)}" in said
    told = [path for path in run.folder.parent.rglob("*") if path.is_file() and SECRET in path.read_text()]
    assert not told, "a secret reaches the job by the environment alone"


def test_nobody_gets_in_without_the_runs_token(run: Run, nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    token = run.folder / "servers/ray.token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert not [path for path in run.folder.parent.rglob("*.log") if token.read_text() in path.read_text()]
    url = f"{run.server('ray').url}/api/jobs/"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"Bearer {token.read_text()}"}).status_code == 200


def test_who_ends_the_call_ends_the_job(run: Run, nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    noted = run.folder.parent / "job.pid"
    code = f"import os, time; open({str(noted)!r}, 'w').write(str(os.getpid())); print('begun'); time.sleep(600)"
    with ray("submit", run.folder, "--", "python3", "-uc", code, log=run.folder.parent / "ended.log") as process:
        wait_until(lambda: noted.exists() and noted.read_text() != "", process)
        process.terminate()
        assert process.wait(PATIENCE) == 130
    wait_until(lambda: not Path(f"/proc/{noted.read_text()}").exists())


def test_when_the_head_goes_down_the_other_node_ends_too(run: Run, nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    nodes["up"].terminate()
    assert nodes["up"].wait(PATIENCE) == 0 and nodes["join"].wait(PATIENCE) == 0
    assert "the head has gone down" in (run.folder.parent / "join.log").read_text()
    assert not list((run.folder / "servers").iterdir())
    status, said = submitted(run, "--", "true")
    assert status == 2 and "no ray server of this run is up" in said


def test_nobody_joins_the_head_of_another_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path / "run", "stage=demos")
    (run.folder / "servers").mkdir()
    write_json(run.folder / HEAD_FILE, {"address": "127.0.0.2:9", "key": "17.0"})
    for name, value in {**JOB, "SLURM_NODEID": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RayFailed, match=r"no head for job 17\.1, and for \d+ s no sign of the run"):
        ray_cluster.join(run.folder, 1, 0.5)
    run.finish({})
    ray_cluster.join(run.folder, 1, 0.5)  # nothing is left to join
    assert "joining" not in capsys.readouterr().out


def test_missing_nodes_are_waited_for_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path / "run", "stage=demos")
    monkeypatch.setattr(ray_cluster, "RAY", ("sh", "-c", "exec sleep 600"))
    with pytest.raises(RayFailed, match=r"0 of 2 nodes came up within 0.5 s \(engine.slime.start_seconds\)"):
        ray_cluster.up(run.folder, 2, 0, run.folder / "servers/ray.json", 0.5)
    monkeypatch.setattr(ray_cluster, "RAY", ("sh", "-c", "exit 3"))
    with pytest.raises(RayFailed, match="the head ended with status 3"):
        ray_cluster.up(run.folder, 1, 0, run.folder / "servers/ray.json", PATIENCE)
    assert not list((run.folder / "servers").iterdir())


def test_a_nodes_name_that_means_itself_alone_is_no_address_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"node01": "10.0.0.7", "debian": "127.0.1.1"}
    monkeypatch.setattr(socket, "gethostbyname", lambda name: known.get(name, "10.0.0.8"))
    assert own_address("node01") == "10.0.0.7"
    assert own_address("debian") == own_address() != "127.0.1.1"
