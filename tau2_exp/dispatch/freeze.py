"""Planned runs become folders: made, taken up with the settings of the newest command, or found under a given name."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tau2_exp.config import Config, ConfigError
from tau2_exp.dispatch.step import Step
from tau2_exp.files import clear_leftovers
from tau2_exp.runs.outputs import folder_name, index_runs
from tau2_exp.runs.run import Run, RunStatus

# What a folder's configuration says of the folder itself and of one command: no later command's.
OWN = ("name", "outputs", "parent", "resume", "dry_run", "wait", "debug")


def freeze(step: Step, argv: Sequence[str], busy: Collection[str] = (), made: Made | None = None) -> Run:
    """Make the folders of a step and of all that it depends on, where there are none yet; in W&B they are one group.

    An existing unfinished run takes this command's settings, unless it is running or its address is in `busy`. A given
    name becomes a link to the run. `made` records what is made. Raises ConfigError.
    """
    made = made if made is not None else Made()
    outputs = Path(step.config.outputs)
    if file := next((path for path in (outputs, *outputs.parents) if path.is_file()), None):
        raise ConfigError(f"{file}: is a file; outputs={outputs} must be a folder")
    clear_leftovers(outputs)
    if not outputs.exists():
        made.outputs.append(outputs)
    check_names(step, outputs)
    names = {part.address: part.name or folder_name(part.stage, part.address) for part in step.lineage()}
    group = step.config.logger.group or names[step.address]
    for part in step.lineage():
        if part.run is None:
            _create(part, outputs / names[part.address], group, argv, made)
        if part.run is not None and not part.fresh:
            take_up(part, busy)
            if part.name:
                _name(outputs / part.name, part.run, made)
    assert step.run is not None
    return step.run


class Unsettled(ConfigError):
    """A command was cut off while jobs that it submitted may still run; the runs' folders record which."""


@dataclass
class Made:
    """What one command made, so that a command that fails can remove it."""

    folders: list[Path] = field(default_factory=list)
    names: list[Path] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)

    def remove(self) -> None:
        """Remove all of it, except the folders of running runs and output folders that hold anything else."""
        for name in self.names:
            name.unlink(missing_ok=True)
        for folder in reversed(self.folders):
            if Run(folder).status is not RunStatus.running:  # another command may have found it
                shutil.rmtree(folder, ignore_errors=True)
        for folder in reversed(self.outputs):
            with suppress(OSError):
                folder.rmdir()  # where nothing else is in it


@contextmanager
def all_or_nothing() -> Iterator[Made]:
    """Remove what the block recorded in `Made` where it raises OSError, or a ConfigError that is not Unsettled."""
    made = Made()
    try:
        yield made
    except Unsettled:
        raise
    except (ConfigError, OSError):
        made.remove()
        raise


def take_up(step: Step, busy: Collection[str] = ()) -> None:
    """Write this command's settings into an existing run that is not finished, running or in `busy`.

    Settings that change a result are the same in both, since the address is.
    """
    run = step.run
    assert run is not None
    if run.status in (RunStatus.finished, RunStatus.running) or step.address in busy:
        return
    step.config = _kept(run.config, step.config)
    run.refreeze(step.config)


def _kept(before: Config, now: Config) -> Config:
    """The settings `now`, with the fields of OWN, and the W&B group where `now` has none, from `before`."""
    own = {name: getattr(before, name) for name in OWN}
    return replace(now, **own, logger=replace(now.logger, group=now.logger.group or before.logger.group))


def _create(step: Step, folder: Path, group: str, argv: Sequence[str], made: Made) -> None:
    config = replace(step.config, logger=replace(step.config.logger, group=group))
    parent = step.parent.run if step.parent else None
    members = [member.run for member in step.members if member.run]
    _free(folder)
    try:
        step.run = Run.create(config, step.address, folder, parent, members, argv)
    except ConfigError:
        # Another command may have made the same run since this one was planned.
        step.run = index_runs(folder.parent).get(step.address)
        if step.run is None:
            raise
        return
    step.fresh = True
    made.folders.append(folder)


def check_names(target: Step, outputs: Path) -> None:
    """Raises ConfigError where a name that was given is another run's, before anything is made."""
    for step in reversed(list(target.lineage())):
        folder = outputs / (step.name or "")
        if step.name and folder.exists() and not _is(folder, step):
            raise ConfigError(f"name={step.name}: {folder} already exists; use another name or remove it")


def _is(folder: Path, step: Step) -> bool:
    """Whether a folder is the step's run, which another command may have made since this one was planned."""
    try:
        return Run.open(folder).manifest.address == step.address
    except ConfigError:
        return False


def _free(folder: Path) -> None:
    """Remove a name that leads to a run that is gone."""
    if folder.is_symlink() and not folder.exists():
        folder.unlink()


def _name(folder: Path, run: Run, made: Made) -> None:
    """Let the name lead to a run of another name: a relative link, so that `outputs` can be moved."""
    _free(folder)
    if not folder.exists():
        folder.symlink_to(os.path.relpath(run.folder.resolve(), folder.parent.resolve()))
        made.names.append(folder)
        told = f"{folder}: the same settings as {run.folder}, which it leads to"
        print(told, file=sys.stderr, flush=True)  # what a command prints may be read by another
