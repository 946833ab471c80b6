"""The state of runs, wherever they run: from the queue and from their folders, never from one of them alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.local.sweep import read_sweep, sweep_folders
from tau2_exp.dispatch.slurm.jobs import SlurmJob, job_of, within
from tau2_exp.dispatch.slurm.queue import Entry, look_up
from tau2_exp.runs.progress import read_progress
from tau2_exp.runs.run import Run, RunStatus

LAST_LINES = 3


class RunState(str, Enum):
    """The state of a run, as `status` prints it."""

    finished = "finished"
    running = "running"
    pending = "pending"  # in the queue
    unfinished = "unfinished"  # never begun, or killed; no job does it
    failed = "failed"
    skipped = "skipped"  # what it needs did not finish
    cancelled = "cancelled"
    lost = "lost"  # its job is gone, and left no results
    unknown = "unknown"  # its folder is gone, or what says how it stands cannot be read


SETTLED = set(RunState) - {RunState.running, RunState.pending}


@dataclass(frozen=True)
class Report:
    """One run, now."""

    run: Run
    state: RunState
    detail: str = ""  # why it waits, where it runs, what went wrong
    job: str | None = None
    seconds: float | None = None  # since its job began


def runs_of(folder: Path) -> list[Run]:
    """The runs of a sweep, or a run, with all that they depend on: parents first, each once. Raises ConfigError."""
    return with_lineage(starts_of(folder))


def runs_in(folder: Path) -> list[Run]:
    """The same, also for a folder that contains run folders."""
    paths = [path.parent for path in sorted(folder.glob("[!.]*/manifest.json")) if not path.parent.is_symlink()]
    return with_lineage(map(Run, paths)) or runs_of(folder)


def with_lineage(starts: Iterable[Run]) -> list[Run]:
    """These runs, each after all that it depends on, and each once."""
    found: dict[Path, Run] = {}
    for start in starts:
        for run in _lineage(start):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def needs_of(run: Run) -> tuple[Run, ...]:
    """The runs that `run` depends on directly; none where its folder cannot be read."""
    try:
        return run.members or ((run.parent,) if run.parent else ())
    except (ConfigError, OSError):
        return ()


def members_of(run: Run) -> tuple[Run, ...]:
    """The runs of a pipeline; none where its folder cannot be read, and of any other run."""
    try:
        return run.members
    except (ConfigError, OSError):
        return ()


def starts_of(folder: Path) -> list[Run]:
    """The runs of a sweep, whether their folders exist or not, or the run itself. Raises ConfigError."""
    if (folder / "sweep.json").is_file():
        return [Run(path) for path in sweep_folders(folder, read_sweep(folder))]
    return [Run.open(folder)]


def reports(runs: Sequence[Run]) -> list[Report]:
    """A report for each run; in `runs`, each comes after those it depends on.

    Raises ConfigError where SLURM's queue cannot be queried.
    """
    unknown = {run.folder: why for run in runs if (why := _why_unknown(run))}
    jobs = {run.folder: job_of(run.folder) for run in runs if run.folder not in unknown}
    unfinished = [job.id for run in runs if (job := jobs.get(run.folder)) and run.status is not RunStatus.finished]
    entries = look_up(unfinished)
    told: dict[Path, Report] = {}
    for run in runs:
        job = jobs.get(run.folder)
        places = [need.folder.resolve() for need in needs_of(run)]
        needs = [told[place] for place in places if place in told]
        report = Report(run, RunState.unknown, unknown.get(run.folder, ""))
        if run.folder not in unknown:
            report = _report(run, job, entries.get(job.id) if job else None, needs)
        told[run.folder.resolve()] = report
    return list(told.values())


def _why_unknown(run: Run) -> str:
    """Why a run's state cannot be read from its folder; empty where it can."""
    if not run.folder.is_dir():
        return "its folder is gone"
    try:
        Run.open(run.folder)
        _ = run.manifest, run.config
        if run.status is RunStatus.finished:
            _ = run.results
    except (ConfigError, OSError) as error:
        return str(error)
    return ""


def _damage(run: Run) -> str:
    """Why a run's progress cannot be read; empty where it can."""
    try:
        read_progress(run.folder)
    except (ConfigError, OSError) as error:
        return str(error)
    return ""


def _report(run: Run, job: SlurmJob | None, entry: Entry | None, needs: Sequence[Report]) -> Report:
    status = run.status  # read after the queue: a job ends after it has written its results
    number = job.id if job else None
    if status is RunStatus.finished:
        return Report(run, RunState.finished, _damage(run), number)
    if entry and entry.waiting:
        return Report(run, RunState.pending, _why_it_waits(entry, needs), number)
    if entry and entry.running:
        return Report(run, RunState.running, f"on {entry.nodes}" if entry.nodes else "", number, entry.seconds)
    if status is RunStatus.running:
        where = "on this machine" if job is None else "outside its job"
        return Report(run, RunState.running, "; ".join(filter(None, (where, _damage(run)))), number)
    culprit = next((need for need in needs if need.state in SETTLED - {RunState.finished}), None)
    if culprit and (job or run.failure):
        return Report(run, RunState.skipped, f"{culprit.run.folder.name} {culprit.state.value}", number)
    if status is RunStatus.failed:
        return Report(run, RunState.failed, run.failure, number)
    if job is None:
        return Report(run, RunState.unfinished, _damage(run))
    return _ended(run, job, entry)


def _ended(run: Run, job: SlurmJob, entry: Entry | None) -> Report:
    """The report of a job that ended without results and without a recorded failure."""
    if entry and entry.state == "CANCELLED":
        return Report(run, RunState.cancelled, job=job.id)
    what = "gone from the queue" if entry is None else f"ended {entry.state}"
    state = RunState.lost if entry is None or entry.state == "COMPLETED" else RunState.failed
    last = " | ".join(last_words(run.folder, job))
    return Report(run, state, f"{what} without results" + (f": {last}" if last else ""), job.id)


def last_words(folder: Path, job: SlurmJob) -> list[str]:
    """The last lines of the worker's log, then those with an error among the last lines of SLURM's own output."""
    slurm = [line for line in _tail(within(folder, job.output)) if "error" in line.lower()]
    return [*_tail(within(folder, job.log)), *slurm]


def _tail(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(errors="replace") as lines:
        return list(deque((line.strip() for line in lines if line.strip()), maxlen=LAST_LINES))


def _why_it_waits(entry: Entry, needs: Iterable[Report]) -> str:
    waited = [need.run.folder.name for need in needs if need.state is not RunState.finished]
    if entry.reason == "Dependency" and waited:
        return f"for {', '.join(waited)}"
    return entry.reason


def _lineage(run: Run) -> Iterator[Run]:
    for need in needs_of(run):
        yield from _lineage(need)
    yield run
