"""Weights & Biases as a mirror of a run's folder: never a question, never a stall, never the only record."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tau2_exp.config import Config, ConfigError, to_data
from tau2_exp.secrets import secret

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run as WandbRun

PROBE_SECONDS = 3.0
INIT_SECONDS = 20.0
FINISH_SECONDS = 30.0


class Mirror:
    """One W&B run. What goes wrong with it is said once, and the run goes on without it."""

    def __init__(self, run: WandbRun) -> None:
        self._run: WandbRun | None = run

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self._try(lambda run: run.log(metrics, step=step))

    def summary(self, results: dict[str, Any]) -> None:
        self._try(lambda run: run.summary.update(results))

    def finish(self, failed: bool) -> None:
        self._try(lambda run: run.finish(exit_code=int(failed)))
        self._run = None

    def _try(self, act: Any) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:
            print(f"wandb: {_one_line(error)}; going on without it (the run's folder holds everything)", flush=True)
            self._run = None


def wandb_mirror(config: Config, folder: Path, stage: str) -> Mirror | None:
    """Online where there is a key and a network, else offline with one line that says why. None where wandb fails."""
    try:
        import wandb
    except ImportError:
        print("wandb: not installed (pip install wandb); going on without it", flush=True)
        return None

    key, why_offline = _key(config.logger.api_key_env)
    settings = wandb.Settings(
        silent=True, console="off", api_key=key, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
    )
    server = wandb.setup().settings.base_url
    if key and not _answers(server):
        why_offline = f"{urlsplit(server).hostname} does not answer"
    names: dict[str, Any] = {
        "project": config.logger.project,
        "entity": config.logger.entity,
        "group": config.logger.group,
        "job_type": stage,
        "name": folder.name,
        "id": hashlib.sha256(folder.name.encode()).hexdigest()[:16],
        "resume": "allow",
        "dir": str(folder),
        "config": to_data(config),
        "settings": settings,
    }
    if not why_offline:
        try:
            return Mirror(wandb.init(mode="online", **names))
        except Exception as error:
            why_offline = _one_line(error)
    del names["resume"]  # ignored offline, with a warning
    try:
        run = wandb.init(mode="offline", **names)
    except Exception as error:
        print(f"wandb: {_one_line(error)}; going on without it", flush=True)
        return None
    print(f"wandb: {why_offline}; recording offline, to be sent by: wandb sync {Path(run.dir).parent}", flush=True)
    return Mirror(run)


def _key(name: str) -> tuple[str | None, str]:
    """The key, and why there is none."""
    try:
        return secret(name), ""
    except ConfigError as error:
        return None, _one_line(error)


def _answers(url: str) -> bool:
    """Whether the host takes a connection; a name server that hangs counts as no."""
    parts = urlsplit(url)
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
    return (str(error).strip() or type(error).__name__).splitlines()[0]
