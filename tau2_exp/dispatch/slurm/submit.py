"""Frozen runs as SLURM jobs, submitted through submitit; the command then returns, and the queue goes on."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.local.processes import settings
from tau2_exp.dispatch.plan import Step
from tau2_exp.dispatch.resources import gpus, nodes
from tau2_exp.dispatch.slurm.arrays import Array, make_arrays, waves
from tau2_exp.dispatch.slurm.jobs import WORKER_LOG, SlurmJob, Submission, job_of, write_jobs
from tau2_exp.dispatch.slurm.queue import ask, cancel, look_up
from tau2_exp.dispatch.slurm.snapshot import snapshot
from tau2_exp.dispatch.tasks import unfinished
from tau2_exp.system.allocation import allocation

if TYPE_CHECKING:
    from submitit import SlurmExecutor

TIMEOUTS = 100  # how often a job that reaches its time limit goes on
COMMAND = "python -m tau2_exp"


@dataclass(frozen=True)
class Cluster:
    """What its controller says of itself."""

    address: str | None  # its slurm.conf, where this machine has one
    array_size: int | None


def cluster() -> Cluster:
    """Raises ConfigError where nothing can be submitted."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("hardware.launcher=slurm: needs submitit; pip install submitit")
    shown = ask("scontrol", "show", "config")
    if shown.returncode:
        raise ConfigError(f"hardware.launcher=slurm: no SLURM cluster answers here ({shown.stderr.strip()})")
    values = dict(re.findall(r"^(\w+)\s*= (\S+)", shown.stdout, re.MULTILINE))
    address, size = values.get("SLURM_CONF", ""), values.get("MaxArraySize", "")
    return Cluster(address if Path(address).is_file() else None, int(size) if size.isdigit() else None)


def submit(targets: Sequence[Step], owner: Path) -> Submission | None:
    """Submit what is left to do for frozen targets, and write jobs.json into `owner` and each run's folder.

    None where nothing is left, or all of it is in the queue already. Raises ConfigError; nothing is submitted then.
    """
    there = cluster()
    queued = _queued(targets)
    limits = [step.config.hardware.slurm for target in targets for step in target.lineage()]
    sizes = [*(limit.array_limit for limit in limits), *([there.array_size] if there.array_size else [])]
    arrays = make_arrays(targets, min(sizes), queued)
    if not arrays:
        return None
    at_once = min((limit.at_once for limit in limits if limit.at_once), default=None)
    steps = [step for array in arrays for step in array.steps]
    plugins = [plugin for step in steps if step.run for plugin in step.run.manifest.plugins]
    sender = _Sender(owner.resolve(), snapshot(owner.parent, plugins), dict(queued), _dependents(targets))
    _prepare(sender, steps)
    with _submitting(there):
        try:
            before: list[Array] = []
            for wave in waves(arrays, at_once):
                for array in wave:
                    sender.send(array, at_once, before)
                before = wave
        except BaseException as error:  # Ctrl-C too: nothing would know of these jobs
            cancel([job.id for job in sender.jobs])
            if isinstance(error, (RuntimeError, ValueError)):
                raise ConfigError(f"sbatch: {_reason(error)}") from error
            raise
    return _note(sender, steps)


@dataclass
class _Sender:
    """Submits arrays, one after another, and remembers their ids."""

    owner: Path
    code: Path
    ids: dict[str, str]  # of jobs, by the address of what they do
    dependents: dict[str, tuple[str, ...]]
    jobs: list[SlurmJob] = field(default_factory=list)
    arrays: dict[Array, str] = field(default_factory=dict)  # their ids

    def send(self, array: Array, at_once: int | None, behind: Sequence[Array]) -> None:
        from tau2_exp.dispatch.slurm.stage_job import StageJob

        executor = self._executor(array, at_once, [self.arrays[other] for other in behind])
        calls = []
        for step in array.steps:
            hardware = step.config.hardware
            save = hardware.slurm.save_seconds * 0.8  # the rest is for leaving, and for queueing again
            calls.append(
                StageJob(_folder(step), tuple(settings(hardware)), save, self.dependents.get(step.address, ()))
            )
        sent = executor.submit_array(calls)
        self.arrays[array] = sent[0].job_id.partition("_")[0]
        for place, (step, job) in enumerate(zip(array.steps, sent, strict=True)):
            self.ids[step.address] = job.job_id
            self.jobs.append(self._noted(array, place, step, job.job_id))

    def _noted(self, array: Array, place: int, step: Step, job: str) -> SlurmJob:
        run = Path(relpath(_folder(step), self.owner))
        needs = [need.address for need in (*array.needs, *(other.steps[place] for other in array.follows))]
        main, _, index = job.partition("_")
        return SlurmJob(
            id=job,
            run=str(run),
            stage=step.stage,
            command=f"{COMMAND} work {shlex.quote(_folder(step))}",
            log=str(run / WORKER_LOG),
            output=f"slurm/{job}_0_log.out",
            array=main if index else None,
            index=int(index) if index else None,
            after=tuple(self.ids[address] for address in needs),
        )

    def _executor(self, array: Array, at_once: int | None, behind: Sequence[str]) -> SlurmExecutor:
        from submitit import SlurmExecutor

        first, slurm = array.steps[0], array.steps[0].config.hardware.slurm
        executor = SlurmExecutor(self.owner / "slurm", max_num_timeout=TIMEOUTS, python=slurm.python)
        asked: dict[str, Any] = {
            "job_name": f"{self.owner.name}-{first.stage}",
            "time": slurm.minutes,
            "nodes": nodes(first.config),
            "ntasks_per_node": 1,
            "cpus_per_task": slurm.cpus,
            "mem": f"{slurm.memory_gb}GB" if slurm.memory_gb else None,
            "gpus_per_node": gpus(first.config) or None,
            "partition": slurm.partition,
            "account": slurm.account,
            "qos": slurm.qos,
            "constraint": slurm.constraint,
            "signal_delay_s": slurm.save_seconds,
            "dependency": self._dependency(array, behind),
            "array_parallelism": at_once or len(array.steps),
            "setup": [*slurm.setup, *self._code_first()],
            "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={slurm.cpus}", *slurm.srun],
            "stderr_to_stdout": True,
            "wckey": None,
            "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes", **slurm.options},
        }
        executor.update_parameters(**asked)
        return executor

    def _code_first(self) -> list[str]:
        """Every Python of the job reads the copy of the code, whatever lies in the folder that it starts in."""
        return [
            f"export PYTHONPATH={shlex.quote(str(self.code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",
        ]

    def _dependency(self, array: Array, behind: Sequence[str]) -> str | None:
        kinds = {
            "aftercorr": [self.arrays[other] for other in array.follows],
            "afterok": [self.ids[need.address] for need in array.needs],
            "afterany": behind,
        }
        return ",".join(":".join([kind, *ids]) for kind, ids in kinds.items() if ids) or None


def _queued(targets: Sequence[Step]) -> dict[str, str]:
    """What is in the queue already, by address: another command of ours submitted it."""
    jobs = {address: job_of(Path(_folder(demand.step))) for address, demand in unfinished(targets).items()}
    entries = look_up(job.id for job in jobs.values() if job)
    return {address: job.id for address, job in jobs.items() if job and job.id in entries and entries[job.id].live}


def _dependents(targets: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """By address, the folders of all runs that cannot be done without that one."""
    found: dict[str, dict[str, None]] = {}
    for demand in unfinished(targets).values():
        for before in demand.step.lineage():
            if before is not demand.step:
                found.setdefault(before.address, {})[_folder(demand.step)] = None
    return {address: tuple(folders) for address, folders in found.items()}


def _prepare(sender: _Sender, steps: Sequence[Step]) -> None:
    for step in steps:
        assert step.run is not None
        (step.run.folder / "failure.json").unlink(missing_ok=True)  # an earlier attempt's
        step.run.record(code=relpath(sender.code, _folder(step)))


def _note(sender: _Sender, steps: Sequence[Step]) -> Submission:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    submission = Submission(now, relpath(sender.code, sender.owner), ".", tuple(sender.jobs))
    for step, job in zip(steps, submission.jobs, strict=True):
        part = Submission(now, submission.code, ".", submission.lineage(job))
        write_jobs(Path(_folder(step)), part, sender.owner)
    write_jobs(sender.owner, submission, sender.owner)
    return submission


def _folder(step: Step) -> str:
    assert step.run is not None
    return str(step.run.folder.resolve())


@contextmanager
def _submitting(there: Cluster) -> Iterator[None]:
    """Within a job, its own variables must not decide what another asks for; the cluster's address stays."""
    from submitit.helpers import clean_env, environment_variables

    if allocation() is None:
        yield
    else:
        with clean_env(), environment_variables(**({"SLURM_CONF": there.address} if there.address else {})):
            yield


def _reason(error: Exception) -> str:
    """The last line that sbatch wrote, of all that submitit tells."""
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
    return lines[-1].removeprefix("sbatch: error: ") if lines else " ".join(str(error).split())
