"""A sweep: many runs frozen at once and done side by side; its folder lists them by their overrides."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from os.path import normpath, relpath
from pathlib import Path
from typing import TYPE_CHECKING

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError, HardwareConfig
from tau2_exp.dispatch.local.processes import Job, State, run_side_by_side
from tau2_exp.dispatch.show import end_lines
from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import Task, make_tasks
from tau2_exp.files import whole_folder
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run
from tau2_exp.system.code import current_commit
from tau2_exp.system.quoting import setting

if TYPE_CHECKING:
    from tau2_exp.dispatch.local.board import Line


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep, as sweep.json lists it."""

    overrides: tuple[str, ...]
    run: str  # its folder, relative to the sweep's


@dataclass(frozen=True)
class Sweep:
    """The content of sweep.json."""

    created: str
    argv: tuple[str, ...]
    commit: str | None
    jobs: tuple[SweepJob, ...]


def write_sweep(folder: Path, jobs: Sequence[tuple[Sequence[str], Run]], argv: Sequence[str]) -> Sweep:
    """Make a sweep's folder with sweep.json; `jobs` are pairs of overrides and run. Raises FileExistsError."""
    listed = tuple(SweepJob(tuple(overrides), relpath(run.folder, folder)) for overrides, run in jobs)
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    sweep = Sweep(created, tuple(argv), current_commit(), listed)
    with whole_folder(folder) as part:
        write_json(part / "sweep.json", encode(sweep))
    return sweep


def read_sweep(folder: Path) -> Sweep:
    """The sweep in `folder`. Raises ConfigError where there is none, or sweep.json is damaged."""
    path = folder / "sweep.json"
    try:
        return decode(Sweep, json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{folder}: no sweep ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); its runs are beside it, in {folder.parent}") from None


def sweep_folders(folder: Path, sweep: Sweep) -> list[Path]:
    """The folders of a sweep's runs, in the order of its jobs; they need not exist."""
    return [Path(normpath(folder / job.run)) for job in sweep.jobs]


def sweep_runs(folder: Path, sweep: Sweep) -> list[Run]:
    """The runs of a sweep, in the order of its jobs. Raises ConfigError where one of their folders is gone."""
    return [Run.open(one) for one in sweep_folders(folder, sweep)]


def run_sweep(folder: Path, sweep: Sweep, targets: Sequence[Step], hardware: HardwareConfig) -> int:
    """Do what is unfinished of a sweep; 0 where every job of it is finished at the end, else 1."""
    from tau2_exp.dispatch.local.board import Board

    names = labels([job.overrides for job in sweep.jobs])
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    jobs = [Job(task, logs / f"{place:03}.log") for place, task in enumerate(make_tasks(targets))]

    def count() -> str:
        return f"{sum(target.finished for target in targets)} of them finished"

    board = Board(
        lambda: [_line(job, names, count) for job in jobs], lambda: f"sweep {folder}: {len(targets)} jobs, {count()}"
    )
    try:
        with board:
            run_side_by_side(jobs, hardware, board.update)
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            print(f"stopped; to continue: {setting('resume', folder)}", file=sys.stderr)
        raise
    return _close(folder, sweep, names, targets, jobs)


def labels(overrides: Sequence[Sequence[str]]) -> list[str]:
    """A label for each job: the overrides that not all jobs have, or all of its own where there are none such."""
    common = set.intersection(*(set(job) for job in overrides))
    return [" ".join(text for text in job if text not in common) or " ".join(job) for job in overrides]


def _line(job: Job, names: Sequence[str], count: Callable[[], str]) -> Line:
    from tau2_exp.dispatch.local.board import Line, current

    running = job.state is State.running
    detail = f"log {job.log}" if running else f"{job.seconds:.0f} s"
    if job.state is State.finished:
        detail += f", {count()}"
    doing = current(job.task.runs) if running else None
    return Line(_title(job.task, names), job.state.value, doing, job.seconds if job.began else None, detail)


def _title(task: Task, names: Sequence[str]) -> str:
    if len(task.targets) == 1:
        return names[task.targets[0]]
    return f"{' '.join(run.stage for run in task.runs)} (shared by {len(task.targets)} jobs)"


def _close(folder: Path, sweep: Sweep, names: Sequence[str], targets: Sequence[Step], jobs: Sequence[Job]) -> int:
    unfinished = [place for place, target in enumerate(targets) if not target.finished]
    for job in jobs:
        if job.state is State.failed:
            culprit = next((run for run in job.task.runs if run.failure), job.task.runs[0])
            print(f"failed: {_title(job.task, names)}: {culprit.folder}: {culprit.failure or 'ended'} (see {job.log})")
    for place in unfinished:
        print(f"not finished: {names[place]}: {normpath(folder / sweep.jobs[place].run)}")
    if unfinished:
        print(f"{len(unfinished)} of {len(targets)} jobs are not finished; to continue, and to see them:")
    else:
        print(f"finished: {folder}")
    print("\n".join(end_lines(targets, folder)))
    return 1 if unfinished else 0
