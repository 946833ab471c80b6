"""jobs.json: which SLURM jobs were submitted for a run or a sweep, so that any later shell can find them.

A job is noted before it is submitted, by a name that nothing else has, and its id after. So whenever the command that
submits is cut off, the queue can be asked for what it may have begun.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from os.path import normpath, relpath
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.slurm.queue import ids_of
from tau2_exp.jsonl import write_json

FILE = "jobs.json"
WORKER_LOG = "logs/worker.log"  # within a run's folder


@dataclass(frozen=True)
class SlurmJob:
    """One run's job. Paths are relative to the folder that jobs.json is in."""

    id: str  # 123, or 123_4: element 4 of array 123; empty until sbatch has told it
    run: str
    stage: str
    command: str  # what its first node does
    log: str  # what the worker writes
    output: str  # what SLURM writes: why a worker never began, or was ended
    name: str = ""  # in the queue; an array's elements share it
    array: str | None = None
    index: int | None = None
    after: tuple[str, ...] = ()  # ids of the jobs it waits for


@dataclass(frozen=True)
class Submission:
    """What one command submitted; in a run's folder, what of it that run depends on, itself last."""

    submitted: str
    code: str  # the copy of the code that the jobs are done with
    whole: str  # the folder whose jobs.json holds all jobs of the command
    jobs: tuple[SlurmJob, ...]

    def lineage(self, job: SlurmJob) -> tuple[SlurmJob, ...]:
        """The jobs of this submission that `job` waits for, directly or not, and itself; in order of submission."""
        wanted = set(job.after)
        for other in reversed(self.jobs):
            if other.id in wanted:
                wanted.update(other.after)
        return tuple(other for other in self.jobs if other is job or other.id in wanted)


def write_jobs(folder: Path, submission: Submission, start: Path) -> None:
    """Write jobs.json into `folder`; the submission's paths are relative to `start`."""

    def moved(path: str) -> str:
        return relpath(start / path, folder)

    jobs = tuple(
        replace(job, run=moved(job.run), log=moved(job.log), output=moved(job.output)) for job in submission.jobs
    )
    data = replace(submission, code=moved(submission.code), whole=moved(submission.whole), jobs=jobs)
    write_json(folder / FILE, encode(data))


def read_jobs(folder: Path) -> Submission | None:
    """The submission in jobs.json, with ids from the queue for jobs noted without one; None without any job.

    Raises ConfigError for a damaged file, and where the queue has to be queried and cannot be.
    """
    try:
        submission = decode(Submission, json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{folder / FILE}: cannot be read ({error}); squeue lists what is in the queue") from None
    if names := {job.name for job in submission.jobs if not job.id}:
        known = ids_of(names)
        jobs = [job if job.id else _told(job, known.get(job.name)) for job in submission.jobs]
        submission = replace(submission, jobs=tuple(job for job in jobs if job.id))
    return submission if submission.jobs else None


def _told(job: SlurmJob, number: str | None) -> SlurmJob:
    """A noted job with the id that the queue has for its name; unchanged where it was never submitted."""
    if number is None:
        return job
    own = number if job.index is None else f"{number}_{job.index}"
    return replace(job, id=own, output=output_of(own, job.output), array=None if job.index is None else number)


def output_of(number: str, given: str) -> str:
    """The path of SLURM's output of job `number`; `given` is that of another job, or of none."""
    return str(Path(given).with_name(f"{number}_0_log.out"))


def job_of(folder: Path) -> SlurmJob | None:
    """The job that a run's folder was last submitted as; its paths stay relative to `folder`."""
    submission = read_jobs(folder)
    return next((job for job in submission.jobs if job.run == "."), None) if submission else None


def within(folder: Path, path: str) -> Path:
    """A path of the jobs.json in `folder`, normalised, relative to where this process runs."""
    return Path(normpath(folder / path))
