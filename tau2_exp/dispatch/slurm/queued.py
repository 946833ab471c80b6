"""Which runs of a plan have jobs in the queue, and which of their jobs can do them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tau2_exp.dispatch.slurm.jobs import SlurmJob, job_of, within
from tau2_exp.dispatch.slurm.queue import look_up
from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import unfinished


def queued(targets: Sequence[Step]) -> dict[str, str]:
    """The ids of jobs that are in the queue already, by the address of the run they do. Raises ConfigError."""
    return {address: job.id for address, (folder, job) in _live(targets).items() if _is_whole(folder, job)}


def torn(targets: Sequence[Step]) -> list[str]:
    """The ids of jobs in the queue that cannot work, since the command that submitted them was killed midway."""
    return [job.id for folder, job in _live(targets).values() if not _is_whole(folder, job)]


def _live(targets: Sequence[Step]) -> dict[str, tuple[Path, SlurmJob]]:
    folders = {
        address: Path(folder_of(demand.step)) for address, demand in unfinished(targets).items() if demand.step.run
    }
    jobs = {address: (folder, job) for address, folder in folders.items() if (job := job_of(folder))}
    entries = look_up(job.id for _, job in jobs.values())
    return {address: found for address, found in jobs.items() if (e := entries.get(found[1].id)) and e.live}


def _is_whole(folder: Path, job: SlurmJob) -> bool:
    """Whether submitit's file, which the job loads when it starts, was written."""
    return within(folder, job.output).with_name(f"{job.id}_submitted.pkl").exists()


def dependents(targets: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """By address, the folders of all unfinished runs that depend on that run."""
    found: dict[str, dict[str, None]] = {}
    for demand in unfinished(targets).values():
        for before in demand.step.lineage():
            if before is not demand.step:
                found.setdefault(before.address, {})[folder_of(demand.step)] = None
    return {address: tuple(folders) for address, folders in found.items()}


def folder_of(step: Step) -> str:
    """The resolved folder of a frozen step's run."""
    assert step.run is not None
    return str(step.run.folder.resolve())
