"""A run is one stage in one folder, and the folder is all there is to know about it.

config.json          the frozen configuration, complete: the only truth a worker reads
manifest.json        what it depends on and where it was made: parent, address, commit, versions, hardware
ancestors.json       the settings of the runs that it was made from
metrics.jsonl        one line a step
trajectories/*.jsonl one line an episode
checkpoints/         what a killed run resumes from, and what the next stage starts from
progress.json        how far it is
results.json         its presence says that the run is finished; table.txt is the same for people
failure.json         why the last attempt ended, where it failed
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import Config, ConfigError, LoggerKind, from_data, to_data
from tau2_exp.files import clear_leftovers, whole_folder
from tau2_exp.jsonl import write_json
from tau2_exp.llm.secrets import masked
from tau2_exp.plugins import reach_unchanged
from tau2_exp.runs.address import differences, plugins_of, revision_of
from tau2_exp.runs.ancestors import Ancestor, folders_with, read_ancestors, write_ancestors
from tau2_exp.runs.custom_logger import CustomLogger
from tau2_exp.runs.lock import is_locked, locked
from tau2_exp.runs.manifest import Change, Manifest, installed_versions
from tau2_exp.runs.metrics import MetricsFile
from tau2_exp.runs.progress import Progress, read_progress
from tau2_exp.runs.server import FOLDER as SERVERS
from tau2_exp.runs.server import Server, read_server
from tau2_exp.runs.trajectories import TrajectoryFiles, TrajectoryWriter
from tau2_exp.runs.wandb import Product, WandbLogger, open_logger
from tau2_exp.system.code import current_commit
from tau2_exp.system.quoting import setting, shell
from tau2_exp.types import Trajectory


class RunStatus(str, Enum):
    """The state of a run, as its folder shows it."""

    finished = "finished"
    running = "running"  # some process holds it
    failed = "failed"
    unfinished = "unfinished"  # never begun, or killed
    unknown = "unknown"  # its folder is gone


class Run:
    """One run folder. Made by `create`, read back by `open`; everything it holds is read from the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics = MetricsFile(folder)
        self._trajectories = TrajectoryFiles(folder)
        self._logger: WandbLogger | CustomLogger | None = None
        self._save: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self.stage}, {self.status.value})"

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
        with cls.making(config, address, folder, parent, members, argv):
            pass
        return cls(folder)

    @classmethod
    @contextmanager
    def making(
        cls,
        config: Config,
        address: str,
        folder: Path,
        parent: Run | None = None,
        members: Sequence[Run] = (),
        argv: Sequence[str] = (),
    ) -> Iterator[Run]:
        """As `create`, with what the block adds to the run; it is at `folder` once the block has ended well."""
        if folder.exists():
            raise _taken(folder)
        manifest = Manifest(
            stage=config.stage.name,
            address=address,
            created=_now(),
            seed=config.seed,
            argv=tuple(argv),
            commit=current_commit(),
            versions=installed_versions(),
            revision=revision_of(config),
            plugins=plugins_of(config),
            parent=_way(folder, parent) if parent else None,
            parent_address=parent.manifest.address if parent else None,
            members=tuple(_way(folder, member) for member in members),
            member_addresses=tuple(member.manifest.address for member in members),
        )
        above = [one for need in (*members, *([parent] if parent else [])) for one in need.as_ancestors()]
        try:
            with whole_folder(folder, mode=0o700) as part:  # it will hold conversations
                write_json(part / "config.json", to_data(config))
                write_json(part / "manifest.json", encode(manifest))
                write_ancestors(part, above)
                yield cls(part)
        except FileExistsError as error:
            if error.filename != str(folder):
                raise
            raise _taken(folder) from error

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """The run of a folder; another name of a run (a link) leads to it. Raises ConfigError where there is none."""
        folder = Path(folder)
        if folder.is_symlink():
            folder = Path(os.path.normpath(folder.parent / os.readlink(folder)))
        if not (folder / "config.json").is_file() or not (folder / "manifest.json").is_file():
            raise ConfigError(f"{folder}: {_not_a_run(folder)}")
        return cls(folder)

    # ------------------------------------------------------------ what it is

    @cached_property
    def config(self) -> Config:
        """The frozen configuration. Raises ConfigError where the file is damaged."""
        try:
            return from_data(json.loads((self.folder / "config.json").read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.folder}/config.json: cannot be read ({error})") from None

    @cached_property
    def manifest(self) -> Manifest:
        """What the run depends on and was made with. Raises ConfigError where the file is damaged."""
        return self._read_manifest()

    @property
    def stage(self) -> str:
        """The name of its stage."""
        return self.manifest.stage

    @cached_property
    def parent(self) -> Run | None:
        """The run that it starts from: None where it has none, a GoneRun where that is no longer found."""
        manifest = self.manifest
        return self._needed(manifest.parent, manifest.parent_address) if manifest.parent else None

    @property
    def parents(self) -> tuple[Run, ...]:
        """The runs that it depends on: its parent, that one's parent, and so on."""
        return (self.parent, *self.parent.parents) if self.parent else ()

    @cached_property
    def members(self) -> tuple[Run, ...]:
        """A pipeline's runs, in the order they are made; empty for any other stage."""
        manifest = self.manifest
        addresses = manifest.member_addresses or (None,) * len(manifest.members)
        return tuple(map(self._needed, manifest.members, addresses))

    @cached_property
    def ancestors(self) -> dict[str, Ancestor]:
        """The runs that it was made from, as its folder holds them, by address."""
        return read_ancestors(self.folder)

    def as_ancestors(self) -> tuple[Ancestor, ...]:
        """The ancestors of a run that is made from this one: those of this run, and this run."""
        return (*self.ancestors.values(), Ancestor(self.manifest, to_data(self.config)))

    def reach_plugins(self) -> None:
        """Make the run's plugins importable. Raises ConfigError where their source has changed since it was frozen."""
        reach_unchanged(self.manifest.plugins)

    @property
    def status(self) -> RunStatus:
        """Its state; it is running while any process has claimed it."""
        if (self.folder / "results.json").exists():
            return RunStatus.finished
        if is_locked(self.folder):
            return RunStatus.running
        return RunStatus.failed if (self.folder / "failure.json").exists() else RunStatus.unfinished

    @property
    def results(self) -> dict[str, Any]:
        """What results.json holds. Raises FileNotFoundError before the run is finished, ConfigError for damage."""
        path = self.folder / "results.json"
        try:
            return decode(dict[str, Any], json.loads(path.read_text()))
        except ValueError as error:
            mend = f"remove it, and {setting('resume', self.folder)} makes it again"
            raise ConfigError(f"{path}: cannot be read ({error}); {mend}") from None

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the model that it trained, or has trained so far; None where there is none."""
        model = self.results.get("model") if self.status is RunStatus.finished else "checkpoints/last"
        return self.folder / model if model and (self.folder / model).is_dir() else None

    @property
    def progress(self) -> Progress | None:
        """How far it is; None before it reports any progress, and where the file is damaged."""
        try:
            return read_progress(self.folder)
        except ConfigError:
            return None

    @property
    def table(self) -> str:
        """Its results as a table in text; empty where there is none."""
        path = self.folder / "table.txt"
        return path.read_text() if path.exists() else ""

    @property
    def failure(self) -> str:
        """Why the last attempt failed; empty where it did not."""
        path = self.folder / "failure.json"
        try:
            return str(json.loads(path.read_text())["message"])
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError) as error:
            return f"{path}: cannot be read ({error}); remove it"

    def server(self, name: str) -> Server:
        """A server that was started for this run. Raises ConfigError where it is not up."""
        return read_server(self.folder, name)

    def refreeze(self, config: Config) -> None:
        """Take over a later command's settings that change no result, and note them in the manifest."""
        settings = differences(self.config, config)
        if settings:
            there = self._read_manifest()
            changes = (*there.changes, Change(_now(), settings))
            self.manifest = replace(there, changes=changes, plugins=plugins_of(config))
            write_json(self.folder / "manifest.json", encode(self.manifest))  # a kill here leaves a change told twice
            write_json(self.folder / "config.json", to_data(config))
            self.config = config

    @property
    def lost_samples(self) -> bool:
        """Whether it is an evaluation that was finished here and lost samples to faults."""
        if self.stage != "eval" or self.manifest.hardware is None or self.status is not RunStatus.finished:
            return False
        measures = (m for split in self.results["splits"].values() for m in split["measures"].values())
        return any(measure["value"] is None for measure in measures)

    def reopen(self) -> None:
        """Remove results.json, so that the run is unfinished and can be resumed."""
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
        """Add to the manifest what only the worker, or its sender, knows; `seconds` add up over attempts.

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
        """Append a line to metrics.jsonl and pass it to the logger; a number that is not finite becomes null."""
        logger = self._open_logger()
        clean = self._metrics.append(metrics, step)
        if logger:
            logger.log(clean, step)

    def rewind(self, step: int) -> None:
        """Remove the metrics after `step`, the checkpoint's, so that a resumed run logs no step twice."""
        self.close()
        self._metrics.rewind(step)

    def metrics(self) -> list[dict[str, Any]]:
        """One record a step, each with its `step`. Raises ConfigError, naming the line, where one is damaged."""
        return self._metrics.read()

    def write_trajectories(self, name: str, keep: int | None = None) -> TrajectoryWriter:
        """Append to trajectories/NAME.jsonl, behind its first `keep` (what the checkpoint vouches for; None: all)."""
        return self._trajectories.writer(name, keep)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The names of its files of trajectories."""
        return self._trajectories.names

    def trajectories(self, name: str | None = None) -> Iterator[Trajectory]:
        """The episodes of trajectories/NAME.jsonl in order (none where it is not there), or of all files."""
        for file in self.recorded if name is None else (name,):
            yield from self._trajectories.read(file)

    def finish(self, results: dict[str, Any], table: str = "") -> None:
        """Write the results and end the logger; the run is finished once results.json is there."""
        if table:
            (self.folder / "table.txt").write_text(table.rstrip("\n") + "\n")
        (self.folder / "failure.json").unlink(missing_ok=True)
        if logger := self._open_logger():
            logger.summary(results)
            count = self.config.logger.episodes
            logger.episodes({name: self._trajectories.some(name, count) for name in self.recorded})
            if product := self._product(results):
                logger.keep(product)
        write_json(self.folder / "results.json", results)
        self.close()

    def fail(self, message: str, traceback: str = "") -> None:
        """Note why the attempt ended, without the secrets that a message or a traceback may hold."""
        try:
            told = {"message": masked(message), "traceback": masked(traceback)}
            write_json(self.folder / "failure.json", told)
        finally:
            self.close(failed=True)

    def close(self, failed: bool = False) -> None:
        """Close the metrics and end the logger, as failed or not."""
        logger, self._logger = self._logger, None
        try:
            self._metrics.close()
        finally:
            if logger:
                logger.finish(failed)

    def on_stop(self, save: Callable[[], bool]) -> None:
        """Register what `stop` calls: the stage saves, and returns whether it could do so at once."""
        self._save = save

    def stop(self) -> bool:
        """Save at once what is worth it, and return whether that was possible.

        False where the stage is in the middle of a step: it saves at the end of that step, and raises
        KeyboardInterrupt.
        """
        return self._save is None or self._save()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Lock the run against all other processes; waits while one holds it. A killed process releases it."""
        with locked(self.folder):
            for folder in (self.folder, self.folder / SERVERS, self.folder / "slime"):
                clear_leftovers(folder)
            yield

    # ------------------------------------------------------------ inside

    def _read_manifest(self) -> Manifest:
        try:
            return decode(Manifest, json.loads((self.folder / "manifest.json").read_text()))
        except ValueError as error:
            raise ConfigError(f"{self.folder}/manifest.json: cannot be read ({error}); remove the folder") from None

    def _needed(self, path: str, address: str | None) -> Run:
        """A run that this one was made from: where it was, else where one of its address is now."""
        # The way may lead through links: as they are written, and as they are.
        ways = [Path(os.path.normpath(base / path)) for base in (self.folder, self.folder.resolve())]
        for there in ways:
            if (there / "manifest.json").is_file() and address in (None, Run(there).manifest.address):
                return Run.open(there)
        found = folders_with(address, there.parent, self.folder.parent) if address else iter(())
        if (moved := next(found, None)) is not None:
            return Run.open(moved)
        from tau2_exp.runs.gone import GoneRun

        return GoneRun(there, address or "", self.ancestors)

    def _open_logger(self) -> WandbLogger | CustomLogger | None:
        if self._logger is None and self.config.logger.kind is LoggerKind.custom:
            self.reach_plugins()
            self._logger = CustomLogger(self.config, self.folder)
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
        return Product(name, "dataset", self._trajectories.folder) if self.stage == "demos" else None


def _way(folder: Path, run: Run) -> str:
    """The relative path from a folder that is to be made to a run, whatever links lead to either of them."""
    return os.path.relpath(run.folder.resolve(), folder.parent.resolve() / folder.name)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"name={folder.name}: {folder} already exists; use another name or remove it")


def _not_a_run(folder: Path) -> str:
    """What it is instead, and what to give."""
    is_sweep = (folder / "sweep.json").is_file()
    if is_sweep or any(folder.glob("[!.]*/manifest.json")):
        what = "is a sweep" if is_sweep else "holds runs"
        return f"{what}; give one of its runs: {shell(['python', '-m', 'tau2_exp', 'status', folder])} lists them"
    return "no run folder (it has no config.json and manifest.json)"
