"""Submits arrays of jobs, and records each in the folders of its runs before sbatch is called and after."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import datetime
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tau2_exp.dispatch.local.processes import settings
from tau2_exp.dispatch.resources import gpus, nodes
from tau2_exp.dispatch.show import COMMAND
from tau2_exp.dispatch.slurm.arrays import Array
from tau2_exp.dispatch.slurm.jobs import FILE, WORKER_LOG, SlurmJob, Submission, write_jobs
from tau2_exp.dispatch.slurm.queue import cancel, ids_of
from tau2_exp.dispatch.slurm.queued import folder_of
from tau2_exp.system.quoting import sbatch_name, sbatch_path, shell

if TYPE_CHECKING:
    from submitit import SlurmExecutor

TIMEOUTS = 100  # how often a job that reaches its time limit goes on


class Sender:
    """Submits arrays, one after another, and records each in the runs' folders before and after."""

    def __init__(
        self,
        owner: Path,
        code: Path,
        ids: dict[str, str],
        dependents: dict[str, tuple[str, ...]],
        earlier: Sequence[SlurmJob],
    ) -> None:
        """`ids` maps a run's address to its job in the queue; `earlier` are `owner`'s jobs that are still there."""
        self.owner, self.code, self.ids, self.dependents = owner, code, ids, dependents
        self.jobs, self._old = list(earlier), len(earlier)
        self.arrays: dict[Array, str] = {}  # their ids
        self._began = datetime.now().astimezone().isoformat(timespec="seconds")
        self._before: dict[Path, bytes | None] = {}  # what the files held that this wrote or removed
        self._there = set(self._scripts())

    @property
    def submission(self) -> Submission:
        """All jobs of `owner` so far, as jobs.json holds them."""
        return Submission(self._began, relpath(self.code, self.owner), ".", tuple(self.jobs))

    def send(self, array: Array, at_once: int | None, behind: Sequence[Array]) -> None:
        """Submit one array, which starts once the arrays `behind` have ended.

        `at_once` bounds how many of its jobs run at the same time; None: all of them.
        """
        from tau2_exp.dispatch.slurm.stage_job import StageJob

        name = f"{sbatch_name(self.owner.name)}-{array.steps[0].stage}-{secrets.token_hex(4)}"
        executor = self._executor(array, name, at_once, [self.arrays[other] for other in behind])
        calls = []
        for step in array.steps:
            hardware = step.config.hardware
            save = hardware.slurm.save_seconds * 0.8  # the rest is for leaving, and for queueing again
            calls.append(
                StageJob(folder_of(step), tuple(settings(hardware)), save, self.dependents.get(step.address, ()))
            )
        start = len(self.jobs)
        self.jobs += [self._noted(array, place, name, "") for place in range(len(array.steps))]
        self._note(array, start)
        self._clear_failures(array)
        with redirect_stderr(io.StringIO()):  # submitit prints what it then raises
            sent = executor.submit_array(calls)
        self.arrays[array] = sent[0].job_id.partition("_")[0]
        for place, (step, job) in enumerate(zip(array.steps, sent, strict=True)):
            self.ids[step.address] = job.job_id
            self.jobs[start + place] = self._noted(array, place, name, job.job_id)
        self._note(array, start)

    def cancel(self) -> None:
        """Cancel everything submitted here, by name where no id came back. Raises ConfigError where SLURM fails."""
        new = self.jobs[self._old :]
        known = ids_of({job.name for job in new if not job.id}) if any(not job.id for job in new) else {}
        cancel(list(dict.fromkeys([*(job.id for job in new if job.id), *known.values()])))

    def undo(self) -> None:
        """Restore the files that this wrote or removed, and remove the scripts it added."""
        for path, content in self._before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        for path in set(self._scripts()) - self._there:
            path.unlink(missing_ok=True)

    def _scripts(self) -> list[Path]:
        return list((self.owner / "slurm").glob("*"))

    def _note(self, array: Array, start: int) -> None:
        """Write jobs.json into the folder of each run of an array, and into the owner's."""
        whole = self.submission
        for step, job in zip(array.steps, whole.jobs[start:], strict=True):
            folder = Path(folder_of(step))
            if folder != self.owner:
                self._keep(folder / FILE)
                write_jobs(folder, replace(whole, jobs=whole.lineage(job)), self.owner)
        self._keep(self.owner / FILE)
        write_jobs(self.owner, whole, self.owner)

    def _clear_failures(self, array: Array) -> None:
        """Remove the failure of an earlier attempt, and record the copy of the code that this one uses."""
        for step in array.steps:
            assert step.run is not None
            path = Path(folder_of(step)) / "failure.json"
            self._keep(path)
            path.unlink(missing_ok=True)
            step.run.record(code=relpath(self.code, folder_of(step)))

    def _keep(self, path: Path) -> None:
        if path not in self._before:
            self._before[path] = path.read_bytes() if path.exists() else None

    def _noted(self, array: Array, place: int, name: str, job: str) -> SlurmJob:
        step = array.steps[place]
        run = Path(relpath(folder_of(step), self.owner))
        needs = [need.address for need in (*array.needs, *(other.steps[place] for other in array.follows))]
        return SlurmJob(
            id=job,
            run=str(run),
            stage=step.stage,
            command=shell([*COMMAND, "work", folder_of(step)]),
            log=str(run / WORKER_LOG),
            output=f"slurm/{job}_0_log.out",
            name=name,
            array=job.partition("_")[0] if len(array.steps) > 1 else None,
            index=place if len(array.steps) > 1 else None,
            after=tuple(self.ids[address] for address in needs),
        )

    def _executor(self, array: Array, name: str, at_once: int | None, behind: Sequence[str]) -> SlurmExecutor:
        from submitit import SlurmExecutor

        first, slurm = array.steps[0], array.steps[0].config.hardware.slurm
        executor = SlurmExecutor(self.owner / "slurm", max_num_timeout=TIMEOUTS, python=slurm.python)
        folder, number = sbatch_path(self.owner / "slurm"), "%A_%a" if len(array.steps) > 1 else "%j"
        asked: dict[str, Any] = {
            "job_name": name,
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
            "srun_args": [
                f"--output={folder}/{number}_%t_log.out",  # submitit's own names the folder as it is
                "--kill-on-bad-exit=1",
                f"--cpus-per-task={slurm.cpus}",
                *slurm.srun,
            ],
            "stderr_to_stdout": True,
            "wckey": None,
            "additional_parameters": {
                name: value == "true" or value
                for name, value in {
                    "output": f"{folder}/{number}_0_log.out",
                    "requeue": "true",
                    "kill-on-invalid-dep": "yes",
                    **slurm.options,
                }.items()
                if value != "false"
            },
        }
        executor.update_parameters(**asked)
        return executor

    def _code_first(self) -> list[str]:
        """Every Python of the job reads the copy of the code, whatever lies in the folder that it starts in."""
        return [
            f"export PYTHONPATH={shell([self.code])}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",
        ]

    def _dependency(self, array: Array, behind: Sequence[str]) -> str | None:
        kinds = {
            "aftercorr": [self.arrays[other] for other in array.follows],
            "afterok": [self.ids[need.address] for need in array.needs],
            "afterany": behind,
        }
        return ",".join(":".join([kind, *ids]) for kind, ids in kinds.items() if ids) or None
