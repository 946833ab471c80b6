"""How runs stand, wherever they are done: from the queue and from their folders, never from one of them alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tau2_exp.dispatch.local.sweep import read_sweep, sweep_runs
from tau2_exp.dispatch.slurm.jobs import SlurmJob, job_of, within
from tau2_exp.dispatch.slurm.queue import Entry, look_up
from tau2_exp.runs.run import Run, RunStatus

LAST_LINES = 3


class RunState(str, Enum):
    finished = "finished"
    running = "running"
    pending = "pending"  # in the queue
    unfinished = "unfinished"  # never begun, or killed; no job does it
    failed = "failed"
    skipped = "skipped"  # what it needs did not finish
    cancelled = "cancelled"
    lost = "lost"  # its job is gone, and left no results


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
    """The runs of a sweep or a run with all they depend on: parents first, each once. Raises ConfigError."""
    return _with_lineage(starts_of(folder))


def runs_in(folder: Path) -> list[Run]:
    """The same also of a folder that holds runs."""
    return _with_lineage([Run(path.parent) for path in sorted(folder.glob("[!.]*/manifest.json"))]) or runs_of(folder)


def _with_lineage(starts: Iterable[Run]) -> list[Run]:
    found: dict[Path, Run] = {}
    for start in starts:
        for run in _lineage(start):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def starts_of(folder: Path) -> list[Run]:
    """A sweep's runs, or the run itself. Raises ConfigError."""
    return sweep_runs(folder, read_sweep(folder)) if (folder / "sweep.json").is_file() else [Run.open(folder)]


def reports(runs: Sequence[Run]) -> list[Report]:
    """Of runs that stand after those they need. Raises ConfigError where the queue cannot be asked."""
    jobs = {run.folder: job_of(run.folder) for run in runs}
    unfinished = [job.id for run in runs if (job := jobs[run.folder]) and run.status is not RunStatus.finished]
    entries = look_up(unfinished)
    told: dict[Path, Report] = {}
    for run in runs:
        job = jobs[run.folder]
        places = [need.folder.resolve() for need in _needs(run)]
        needs = [told[place] for place in places if place in told]
        told[run.folder.resolve()] = _report(run, job, entries.get(job.id) if job else None, needs)
    return list(told.values())


def _report(run: Run, job: SlurmJob | None, entry: Entry | None, needs: Sequence[Report]) -> Report:
    status = run.status  # read after the queue: a job ends after it has written its results
    number = job.id if job else None
    if status is RunStatus.finished:
        return Report(run, RunState.finished, job=number)
    if entry and entry.waiting:
        return Report(run, RunState.pending, _why_it_waits(entry, needs), number)
    if entry and entry.running:
        return Report(run, RunState.running, f"on {entry.nodes}" if entry.nodes else "", number, entry.seconds)
    if status is RunStatus.running:
        return Report(run, RunState.running, "on this machine" if job is None else "outside its job", number)
    culprit = next((need for need in needs if need.state in SETTLED - {RunState.finished}), None)
    if culprit and (job or run.failure):
        return Report(run, RunState.skipped, f"{culprit.run.folder.name} {culprit.state.value}", number)
    if status is RunStatus.failed:
        return Report(run, RunState.failed, run.failure, number)
    if job is None:
        return Report(run, RunState.unfinished)
    return _ended(run, job, entry)


def _ended(run: Run, job: SlurmJob, entry: Entry | None) -> Report:
    """A job that is over, and left neither results nor a reason."""
    if entry and entry.state == "CANCELLED":
        return Report(run, RunState.cancelled, job=job.id)
    what = "gone from the queue" if entry is None else f"ended {entry.state}"
    state = RunState.lost if entry is None or entry.state == "COMPLETED" else RunState.failed
    last = " | ".join(last_words(run.folder, job))
    return Report(run, state, f"{what} without results" + (f": {last}" if last else ""), job.id)


def last_words(folder: Path, job: SlurmJob) -> list[str]:
    """The last lines that SLURM and the worker wrote; what SLURM ended it for stands in SLURM's own."""
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


def _needs(run: Run) -> tuple[Run, ...]:
    return run.members or ((run.parent,) if run.parent else ())


def _lineage(run: Run) -> Iterator[Run]:
    for need in _needs(run):
        yield from _lineage(need)
    yield run
