"""A run is one stage in one folder, and the folder is all there is to know about it.

config.json          the frozen configuration, complete: the only truth a worker reads
manifest.json        what it stands on and where it was made: parent, address, commit, versions, hardware
metrics.jsonl        one line a step
trajectories/*.jsonl one line an episode
checkpoints/         what a killed run resumes from, and what the next stage starts from
progress.json        how far it is
results.json         its presence says that the run is finished; table.txt is the same for people
failure.json         why the last attempt ended, where it failed
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import Config, ConfigError, LoggerKind, from_data, to_data
from tau2_exp.config.names import NAME_RULE, is_name
from tau2_exp.jsonl import JsonlWriter, read_jsonl, read_some, write_json
from tau2_exp.runs.manifest import Manifest, current_commit, installed_versions
from tau2_exp.runs.progress import Progress, read_progress
from tau2_exp.runs.wandb import Product, WandbLogger, open_logger
from tau2_exp.types import Trajectory


class RunStatus(str, Enum):
    finished = "finished"
    running = "running"  # some process holds it
    failed = "failed"
    unfinished = "unfinished"  # never begun, or killed


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server of a run is, and the token that it wants; None where it lies elsewhere (Ray's)."""

    url: str
    token: str | None = field(default=None, repr=False)


class TrajectoryWriter:
    """Appends trajectories to one of a run's files."""

    def __init__(self, path: Path, keep: int | None) -> None:
        self._lines = JsonlWriter(path, keep)

    def write(self, trajectory: Trajectory) -> None:
        self._lines.write(encode(trajectory))

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Run:
    """One run folder. Made by `create`, read back by `open`; everything it holds is read from the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics: JsonlWriter | None = None
        self._logger: WandbLogger | None = None
        self._save: Callable[[], bool] | None = None

    @classmethod
    def create(
        cls,
        config: Config,
        address: str,
        folder: Path,
        parent: Run | None = None,
        members: Sequence[Run] = (),
        argv: Sequence[str] = (),
    ) -> Run:
        """Freeze a run, whole or not at all: a kill leaves no half folder. Raises ConfigError where `folder` exists."""
        if folder.exists():
            raise ConfigError(f"name={folder.name}: {folder} already exists; take another name or remove it")
        manifest = Manifest(
            stage=config.stage.name,
            address=address,
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            seed=config.seed,
            argv=tuple(argv),
            commit=current_commit(),
            versions=installed_versions(),
            parent=os.path.relpath(parent.folder, folder) if parent else None,
            members=tuple(os.path.relpath(member.folder, folder) for member in members),
        )
        part = folder.with_name(f".{folder.name}.part{os.getpid()}")
        part.mkdir(parents=True)
        write_json(part / "config.json", to_data(config))
        write_json(part / "manifest.json", encode(manifest))
        part.rename(folder)
        return cls(folder)

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Raises ConfigError where there is no run folder."""
        folder = Path(folder)
        if not (folder / "config.json").is_file() or not (folder / "manifest.json").is_file():
            raise ConfigError(f"{folder}: {_not_a_run(folder)}")
        return cls(folder)

    # ------------------------------------------------------------ what it is

    @cached_property
    def config(self) -> Config:
        try:
            return from_data(json.loads((self.folder / "config.json").read_text()))
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{self.folder}/config.json: {error}") from None

    @cached_property
    def manifest(self) -> Manifest:
        return self._read_manifest()

    @property
    def stage(self) -> str:
        return self.manifest.stage

    @cached_property
    def parent(self) -> Run | None:
        return self._relative(self.manifest.parent) if self.manifest.parent else None

    @cached_property
    def members(self) -> tuple[Run, ...]:
        """A pipeline's runs, in the order they are made; empty for any other stage."""
        return tuple(self._relative(member) for member in self.manifest.members)

    @property
    def status(self) -> RunStatus:
        if (self.folder / "results.json").exists():
            return RunStatus.finished
        if self._held():
            return RunStatus.running
        return RunStatus.failed if (self.folder / "failure.json").exists() else RunStatus.unfinished

    @property
    def results(self) -> dict[str, Any]:
        """Raises FileNotFoundError before the run is finished."""
        return json.loads((self.folder / "results.json").read_text())

    @property
    def progress(self) -> Progress | None:
        return read_progress(self.folder)

    @property
    def table(self) -> str:
        path = self.folder / "table.txt"
        return path.read_text() if path.exists() else ""

    @property
    def failure(self) -> str:
        path = self.folder / "failure.json"
        return json.loads(path.read_text())["message"] if path.exists() else ""

    def server(self, name: str) -> Server:
        """A server that was started for this run. Raises ConfigError where it is not up."""
        path = self.folder / "servers" / f"{name}.json"
        try:
            told = json.loads(path.read_text())
            return Server(told["url"], told.get("token"))
        except (OSError, ValueError, KeyError):
            raise ConfigError(f"{path}: no {name} server of this run is up; resume={self.folder} starts it") from None

    def refreeze(self, config: Config) -> None:
        """Change what a resumed run may change of its frozen configuration."""
        write_json(self.folder / "config.json", to_data(config))
        self.config = config

    @property
    def lost_samples(self) -> bool:
        """Whether it is an evaluation that was played here to its end, and lost samples to faults."""
        if self.stage != "eval" or self.manifest.hardware is None or self.status is not RunStatus.finished:
            return False
        measures = (m for split in self.results["splits"].values() for m in split["measures"].values())
        return any(measure["value"] is None for measure in measures)

    def reopen(self) -> None:
        """Make it unfinished, so that who resumes it goes on."""
        (self.folder / "results.json").unlink()

    # ------------------------------------------------------------ what it records

    def record(
        self,
        *,
        provider: str | None = None,
        hardware: dict[str, Any] | None = None,
        code: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Add to the manifest what only the worker, or who sends it, knows; `seconds` add up over attempts.

        Other processes of the same run (the parts of a plan, slime's) may have added to it since it was read.
        """
        new: dict[str, Any] = {"provider": provider, "hardware": hardware, "code": code}
        there = self._read_manifest()
        if seconds:
            new["seconds"] = round(there.seconds + seconds, 3)
        manifest = replace(there, **{key: value for key, value in new.items() if value})
        write_json(self.folder / "manifest.json", encode(manifest))
        self.manifest = manifest

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """One line of metrics.jsonl, and the same to W&B; a number that is not finite becomes null."""
        logger = self._open_logger()
        if self._metrics is None:
            self._metrics = JsonlWriter(self.folder / "metrics.jsonl")
        clean = {key: _finite(value) for key, value in metrics.items()}
        self._metrics.write({"step": step, **clean})
        if logger:
            logger.log(clean, step)

    def rewind(self, step: int) -> None:
        """Forget metrics after `step`, the checkpoint's, so that a resumed run does not tell its steps twice."""
        self.close()
        kept = [record for record in self.metrics() if record["step"] <= step]
        path = self.folder / "metrics.jsonl"
        part = path.with_name(".metrics.jsonl.part")
        part.unlink(missing_ok=True)
        with JsonlWriter(part) as lines:
            for record in kept:
                lines.write(record)
        part.replace(path)

    def metrics(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.folder / "metrics.jsonl"))

    def trajectories(self, name: str, keep: int | None = None) -> TrajectoryWriter:
        """Append to trajectories/NAME.jsonl, behind its first `keep` (what the checkpoint vouches for; None: all)."""
        return TrajectoryWriter(self._trajectory_file(name), keep)

    def read_trajectories(self, name: str) -> Iterator[Trajectory]:
        for record in read_jsonl(self._trajectory_file(name)):
            yield decode(Trajectory, record)

    def finish(self, results: dict[str, Any], table: str = "") -> None:
        """The run is finished from the moment results.json is there."""
        if table:
            (self.folder / "table.txt").write_text(table.rstrip("\n") + "\n")
        (self.folder / "failure.json").unlink(missing_ok=True)
        if logger := self._open_logger():
            logger.summary(results)
            logger.episodes(self._some_episodes(self.config.logger.episodes))
            if product := self._product(results):
                logger.keep(product)
        write_json(self.folder / "results.json", results)
        self.close()

    def fail(self, message: str, traceback: str = "") -> None:
        write_json(self.folder / "failure.json", {"message": message, "traceback": traceback})
        self.close(failed=True)

    def close(self, failed: bool = False) -> None:
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        if self._logger:
            self._logger.finish(failed)
            self._logger = None

    def on_stop(self, save: Callable[[], bool]) -> None:
        """What a stage in progress does when it is told to save and end; see `stop`."""
        self._save = save

    def stop(self) -> bool:
        """Save at once what is worth it. False where the stage is in the middle of a step: at the end of that one it
        saves, and raises KeyboardInterrupt."""
        return self._save is None or self._save()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the run, alone among all processes; waits while another does. A kill lets go."""
        with (self.folder / ".lock").open("w") as lock:
            if self._held():
                print(f"{self.folder.name}: another process works on it; waiting for that", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ------------------------------------------------------------ inside

    def _read_manifest(self) -> Manifest:
        try:
            return decode(Manifest, json.loads((self.folder / "manifest.json").read_text()))
        except ValueError as error:
            raise ConfigError(f"{self.folder}/manifest.json: {error}") from None

    def _held(self) -> bool:
        path = self.folder / ".lock"
        if not path.exists():
            return False
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _relative(self, path: str) -> Run:
        return Run.open(os.path.normpath(self.folder / path))

    def _trajectory_file(self, name: str) -> Path:
        return self.folder / "trajectories" / f"{name}.jsonl"

    def _open_logger(self) -> WandbLogger | None:
        if self._logger is None and self.config.logger.kind is LoggerKind.wandb:
            name = hashlib.sha256(f"{self.folder.name} {self.manifest.created}".encode()).hexdigest()[:16]
            self._logger = open_logger(self.config, self.folder, self.stage, name, self.metrics)
            if self.parent and (product := self.parent._product(self.parent.results)):
                self._logger.use(product)
        return self._logger

    def _product(self, results: dict[str, Any]) -> Product | None:
        """What the next stage starts from: a model, or demonstrations."""
        name = f"{self.stage}-{self.manifest.address[:16]}"
        if "model" in results:
            return Product(name, "model", self.folder / results["model"])
        return Product(name, "dataset", self.folder / "trajectories") if self.stage == "demos" else None

    def _some_episodes(self, count: int) -> dict[str, list[Trajectory]]:
        """Of each file, so many, evenly spaced."""
        paths = sorted((self.folder / "trajectories").glob("*.jsonl"))
        return {path.stem: [decode(Trajectory, record) for record in read_some(path, count)] for path in paths}


def _not_a_run(folder: Path) -> str:
    """What it is instead, and what to give."""
    is_sweep = (folder / "sweep.json").is_file()
    if is_sweep or any(folder.glob("[!.]*/manifest.json")):
        what = "is a sweep" if is_sweep else "holds runs"
        return f"{what}; give one of its runs: python -m tau2_exp status {folder} lists them"
    return "no run folder (it has no config.json and manifest.json)"


def check_name(name: str | None) -> None:
    """Raises ConfigError for one that a run's folder cannot have."""
    if name is not None and not is_name(name):
        raise ConfigError(f"name={ascii(name)[1:-1]}: {NAME_RULE}")


def folder_name(stage: str, address: str) -> str:
    return f"{datetime.now():%Y-%m-%d_%H%M%S}-{stage}-{address[:8]}"


def index_runs(outputs: Path) -> dict[str, Run]:
    """By content address, the run folders directly under `outputs`: a finished one, else the newest to go on with."""
    found: dict[str, Run] = {}
    for path in sorted(outputs.glob("[!.]*/manifest.json")):
        run = Run(path.parent)
        try:
            before = found.get(run.manifest.address)
        except ConfigError as error:
            print(f"left out: {error}", flush=True)
            continue
        if before is None or before.status is not RunStatus.finished:
            found[run.manifest.address] = run
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
