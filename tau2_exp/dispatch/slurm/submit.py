"""Frozen runs as SLURM jobs, submitted through submitit; the command then returns, and the queue goes on."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.freeze import Made, Unsettled
from tau2_exp.dispatch.slurm.arrays import Array, make_arrays, waves
from tau2_exp.dispatch.slurm.cluster import Cluster, cluster, submitting
from tau2_exp.dispatch.slurm.jobs import Submission, read_jobs
from tau2_exp.dispatch.slurm.queue import cancel
from tau2_exp.dispatch.slurm.queued import dependents, queued, torn
from tau2_exp.dispatch.slurm.sender import Sender
from tau2_exp.dispatch.slurm.snapshot import FOLDER, snapshot
from tau2_exp.dispatch.step import Step
from tau2_exp.plugins import Plugin
from tau2_exp.system.code import run_command
from tau2_exp.system.processes import terminable, undisturbed
from tau2_exp.system.quoting import setting, shell


def submit(targets: Sequence[Step], owner: Path, made: Made) -> Submission | None:
    """Submit what is left to do for frozen targets, and record it in jobs.json of `owner` and of each run's folder.

    None where nothing is left, or all of it is in the queue already. Raises ConfigError; then nothing of it is in the
    queue, and no file of it is left. Raises Unsettled where SLURM stopped answering, so that jobs may be in the queue.
    """
    there = cluster()
    _check_path(owner.resolve())
    with _alone(owner):
        return _submit(targets, owner, there, made)


def _submit(targets: Sequence[Step], owner: Path, there: Cluster, made: Made) -> Submission | None:
    waiting = queued(targets)
    cancel(torn(targets))
    limits = [step.config.hardware.slurm for target in targets for step in target.lineage()]
    sizes = [*(limit.array_limit for limit in limits), *([there.array_size] if there.array_size else [])]
    arrays = make_arrays(targets, min(sizes), waiting)
    if not arrays:
        return None
    at_once = min((limit.at_once for limit in limits if limit.at_once), default=None)
    known = read_jobs(owner)
    earlier = [job for job in known.jobs if job.id in waiting.values()] if known else []
    runs = [step.run for array in arrays for step in array.steps if step.run]
    code = _code(owner.parent, [plugin for run in runs for plugin in run.manifest.plugins], made)
    sender = Sender(owner.resolve(), code, dict(waiting), dependents(targets), earlier)
    with submitting(there), terminable():
        try:
            before: list[Array] = []
            for wave in waves(arrays, at_once):
                for array in wave:
                    sender.send(array, at_once, before)
                before = wave
        except BaseException as error:
            _take_back(sender, error)
            if isinstance(error, (RuntimeError, ValueError)):
                raise ConfigError(f"sbatch: {_reason(error)}") from error
            raise
    return replace(sender.submission, jobs=sender.submission.jobs[len(earlier) :])


def _take_back(sender: Sender, error: BaseException) -> None:
    """Cancel what is in the queue, whatever signal comes meanwhile, and undo what was noted. Raises Unsettled."""
    with undisturbed():
        try:
            sender.cancel()
        except ConfigError as silence:
            owner = shell([sender.owner])
            raise Unsettled(
                f"{_reason(error) or type(error).__name__}; {silence}. Jobs may be in the queue; when it answers: "
                f"python -m tau2_exp cancel {owner}, or {run_command()} {setting('resume', sender.owner)}"
            ) from error
        sender.undo()
    if isinstance(error, KeyboardInterrupt):
        print(f"nothing is submitted; to submit it: {run_command()} {setting('resume', sender.owner)}", file=sys.stderr)


def _code(outputs: Path, plugins: Sequence[Plugin], made: Made) -> Path:
    """The copy of the code; new ones are told."""
    place = outputs.resolve() / FOLDER
    there = {place, *place.iterdir()} if place.exists() else set()
    copy = snapshot(outputs, plugins)
    made.outputs += [place] if place not in there else []
    made.folders += [copy] if copy not in there else []
    return copy


def _check_path(owner: Path) -> None:
    """Raises ConfigError for what submitit would fill in."""
    if found := next((tag for tag in ("%j", "%t", "%A", "%a", "\n") if tag in str(owner)), None):
        raise ConfigError(
            f"outputs: {str(owner)!r} holds {found!r}, which SLURM's jobs cannot have; use another folder"
        )


@contextmanager
def _alone(owner: Path) -> Iterator[None]:
    """One command at a time submits for a folder; another waits, and then finds what is in the queue."""
    with (owner / ".submitting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reason(error: BaseException) -> str:
    """The last line that sbatch wrote, of all that submitit tells."""
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
    return lines[-1].removeprefix("sbatch: error: ") if lines else " ".join(str(error).split())
