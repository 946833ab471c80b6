"""Weights & Biases as a copy of a run's folder. It never prompts, never stalls a run, and is never the only record."""

from __future__ import annotations

import json
import netrc
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tau2_exp.config import ArtifactKind, Config, ConfigError, to_data
from tau2_exp.llm.secrets import masked, secret
from tau2_exp.types import Trajectory

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run as WandbRun

PROBE_SECONDS = 3.0
INIT_SECONDS = 20.0
FINISH_SECONDS = 30.0
READ_SECONDS = 60.0
COLUMNS = ("task", "sample", "outcome", "stop", "turns", "steps", "tool errors", "seconds", "conversation")
LETTERS = 50_000  # of a conversation in a table; W&B warns of longer values
OF_TRAINING = ("training.pt", "training.json")  # of a checkpoint: the run alone goes on from them
PER_TASK = ("outcomes", "greedy_outcomes")  # of results: long lists, which the run's folder holds


@dataclass(frozen=True)
class Product:
    """What a run makes for the next. Its name follows from its content, so that both runs name the same artifact."""

    name: str
    kind: str
    path: Path


class WandbLogger:
    """One W&B run, or none. An error is printed once, and the run continues without it.

    Steps before `first` are skipped: W&B has them already, and only ever appends.
    """

    def __init__(self, run: WandbRun | None, artifacts: ArtifactKind = ArtifactKind.none, first: int = 0) -> None:
        self._run, self._artifacts, self._first, self._step = run, artifacts, first, first

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log one step's metrics, unless W&B has the step already."""
        if step >= self._first:
            self._step = step
            self._try(lambda run: run.log(dict(metrics), step=step))

    def episodes(self, files: Mapping[str, Sequence[Trajectory]]) -> None:
        """Log a table of these trajectories for each file."""

        def tables(run: WandbRun) -> None:
            import wandb

            named = {f"episodes/{name}": [_row(t) for t in played] for name, played in files.items() if played}
            for name, rows in named.items():
                run.log({name: wandb.Table(columns=list(COLUMNS), data=rows)}, step=self._step)

        self._attempt(tables, "its table of episodes is left out")

    def summary(self, results: Mapping[str, Any]) -> None:
        """Log the results, without the long lists of single tasks."""
        self._try(lambda run: run.summary.update(_brief(results)))

    def use(self, product: Product) -> None:
        """Declare the product as an artifact that the run depends on."""
        self._artifact(product, used=True)

    def keep(self, product: Product) -> None:
        """Declare the product as an artifact that the run has made."""
        self._artifact(product, used=False)

    def finish(self, failed: bool) -> None:
        """End the W&B run, as failed or not."""
        self._try(lambda run: run.finish(exit_code=int(failed)))
        self._run = None

    def _artifact(self, product: Product, used: bool) -> None:
        if self._artifacts is ArtifactKind.none or not product.path.exists():
            return

        def declare(run: WandbRun) -> None:
            artifact = _as_artifact(product, self._artifacts)
            # `run.use_artifact` refuses to work offline and waits when online; this is what it does otherwise.
            run._log_artifact(artifact, is_user_created=True, use_after_commit=used)

        self._attempt(declare, f"the artifact {product.name} is left out")

    def _try(self, act: Callable[[WandbRun], object]) -> None:
        self._attempt(act, "continuing without it (the run's folder holds everything)", last=True)

    def _attempt(self, act: Callable[[WandbRun], object], instead: str, last: bool = False) -> None:
        """Do what may fail; where it is the `last` that is tried after a failure, the logger is at its end."""
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:
            print(f"wandb: {_one_line(error)}; {instead}", flush=True)
            if last:
                self._run = None


def open_logger(
    config: Config, folder: Path, stage: str, name: str, told: Callable[[], Sequence[Mapping[str, Any]]]
) -> WandbLogger:
    """The run's W&B logger: online where there is a key and a network, else offline with one line that says why.

    `name` is the W&B run's id: who resumes goes on with it. `told` gives the metrics so far, of which W&B is
    sent what it lacks.
    """
    run, first = _connect(config, folder, stage, name)
    logger = WandbLogger(run, config.logger.artifacts, first)
    for record in told() if run else ():
        logger.log({key: value for key, value in record.items() if key != "step"}, record["step"])
    return logger


def _connect(config: Config, folder: Path, stage: str, name: str) -> tuple[WandbRun | None, int]:
    """A W&B run, and the first step that it has not been told; None where wandb fails."""
    try:
        server = _server()
        key, why_offline = _key(config.logger.api_key_env, server)
        facts = _facts(config, folder, stage, name, key)
        if not why_offline and not answers(server):
            why_offline = f"{urlsplit(server).hostname} does not answer"
        if not why_offline:
            try:
                return _online(facts)
            except Exception as error:
                why_offline = _one_line(error)
                _forget_attempt()
        return _offline(facts, folder, why_offline)
    except Exception as error:  # importing it can break too, by what else is installed
        print(f"wandb: {_one_line(error)}; continuing without it", flush=True)
        return None, 0


def _online(facts: dict[str, Any]) -> tuple[WandbRun, int]:
    import wandb

    run = wandb.init(mode="online", resume="allow", **facts)
    return run, run.starting_step


def _forget_attempt() -> None:
    """End what a failed start left in wandb's own service, which takes the run's id for one in use."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


def _offline(facts: dict[str, Any], folder: Path, why: str) -> tuple[WandbRun, int]:
    import wandb

    first = _first_untold(folder)
    run = wandb.init(mode="offline", **facts)
    _say_offline(why, folder.parent)
    return run, first


@cache
def _say_offline(why: str, outputs: Path) -> None:
    """Once a process, however many runs it does."""
    print(f"wandb: {why}; recording offline, to be sent by: wandb sync {outputs}/*/wandb", flush=True)


def _facts(config: Config, folder: Path, stage: str, name: str, key: str | None) -> dict[str, Any]:
    """What W&B is told of a run as it begins."""
    import wandb

    return {
        "project": config.logger.project,
        "entity": config.logger.entity,
        "group": config.logger.group,
        "job_type": stage,
        "name": folder.name,
        "id": name,
        "dir": str(folder),
        "config": to_data(config),
        "settings": wandb.Settings(
            silent=True, console="off", api_key=key, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
        ),
    }


def _server() -> str:
    import wandb

    return str(wandb.setup().settings.base_url)


def _first_untold(folder: Path) -> int:
    """The step after the last that earlier attempts recorded; a kill loses what they had not written yet."""
    last = -1
    for record in sorted((folder / "wandb").glob("*run-*-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=READ_SECONDS, check=False)
        for line in done.stdout.splitlines():
            if (entry := json.loads(line))["type"] == "history":
                last = max(last, entry["history"]["item"]["_step"])
    return last + 1


def _as_artifact(product: Product, kind: ArtifactKind) -> Any:
    """The same artifact, to the digest, whoever makes it of the same files at the same place."""
    import wandb

    artifact = wandb.Artifact(product.name, product.kind)
    files = sorted(path for path in product.path.rglob("*") if path.is_file() and path.name not in OF_TRAINING)
    for path in files:
        name = path.relative_to(product.path).as_posix()
        if kind is ArtifactKind.upload:
            artifact.add_file(str(path), name=name, policy="immutable")
        else:
            artifact.add_reference(path.resolve().as_uri(), name=name, checksum=False)
    return artifact


def _row(t: Trajectory) -> list[Any]:
    said = "\n".join(f"{m.role.value}: {m.content or ''}{_calls(m.tool_calls)}" for m in t.messages)
    stop = t.fault.message if t.fault else t.stop.value
    return [t.key, t.sample, t.outcome, stop, len(t.turns), t.steps, t.tool_errors, t.seconds, said[:LETTERS]]


def _calls(calls: Sequence[Any]) -> str:
    return "".join(f" {call.name}({json.dumps(call.arguments)})" for call in calls)


def _brief(results: Any) -> Any:
    if not isinstance(results, Mapping):
        return results
    return {key: _brief(value) for key, value in results.items() if key not in PER_TASK}


def _key(name: str, server: str) -> tuple[str | None, str]:
    """The key, and why there is none. One that `wandb login` stored is found by wandb itself."""
    try:
        return secret(name), ""
    except ConfigError as error:
        return None, "" if _has_login(server) else _one_line(error)


def _has_login(server: str) -> bool:
    try:
        return netrc.netrc().authenticators(urlsplit(server).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def answers(url: str) -> bool:
    """Whether the host, or the proxy before it, takes a connection; a name server that hangs counts as no."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy)
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname, parts.port or 443), timeout=PROBE_SECONDS).close()
        except OSError:
            return
        connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return connected.is_set()


def _one_line(error: Exception) -> str:
    return masked(str(error).strip() or type(error).__name__).splitlines()[0]
