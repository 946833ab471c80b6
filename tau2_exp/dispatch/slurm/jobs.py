"""jobs.json: which SLURM jobs were submitted for a run or a sweep, so that any later shell can find them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from os.path import normpath, relpath
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.jsonl import write_json

FILE = "jobs.json"
WORKER_LOG = "logs/worker.log"  # within a run's folder


@dataclass(frozen=True)
class SlurmJob:
    """One run's job. Paths are relative to the folder that jobs.json is in."""

    id: str  # 123, or 123_4: element 4 of array 123
    run: str
    stage: str
    command: str  # what its first node does
    log: str  # what the worker writes
    output: str  # what SLURM writes: why a worker never began, or was ended
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
        wanted = {job.id}
        for other in reversed(self.jobs):
            if other.id in wanted:
                wanted.update(other.after)
        return tuple(other for other in self.jobs if other.id in wanted)


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
    """None where nothing was submitted from or for this folder. Raises ConfigError for a broken file."""
    try:
        return decode(Submission, json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{folder / FILE}: {error}") from None


def job_of(folder: Path) -> SlurmJob | None:
    """The job that a run's folder was last submitted as; its paths stay relative to `folder`."""
    submission = read_jobs(folder)
    return next((job for job in submission.jobs if job.run == "."), None) if submission else None


def within(folder: Path, path: str) -> Path:
    """A path of jobs.json, from here."""
    return Path(normpath(folder / path))
