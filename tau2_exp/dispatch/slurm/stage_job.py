"""What a SLURM job does on each of its nodes: start the worker, pass on signals, queue again where it saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from submitit.helpers import Checkpointable, DelayedSubmission

from tau2_exp.dispatch.slurm.jobs import WORKER_LOG
from tau2_exp.dispatch.slurm.queue import ask
from tau2_exp.dispatch.worker import SAVED
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.system.allocation import Allocation, allocation
from tau2_exp.system.processes import ASKED

POLL_SECONDS = 0.1


@dataclass
class StageJob(Checkpointable):
    """Submitit calls it where the job runs, and calls `checkpoint` when SLURM signals that the time limit is near."""

    run: str
    settings: tuple[str, ...]  # arguments of `env`
    save_seconds: float
    dependents: tuple[str, ...]  # runs that cannot be done without this one
    _worker: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __call__(self) -> None:
        """Run the node's worker to its end, queue the job again where it saved, and exit with the worker's status."""
        here = allocation()
        assert here is not None
        self._worker = self._start(here)
        while not _ended(self._worker):
            time.sleep(POLL_SECONDS)
        status = self._worker.wait()
        if (status == SAVED or _was_asked(status)) and here.rank == 0:
            _queue_again(here)
        self._leave(status, here.rank)

    def checkpoint(self) -> DelayedSubmission:
        """Have the worker save, and end it; submitit then queues the job again."""
        if self._worker is None:  # told before anything began
            return DelayedSubmission(replace(self))
        deadline = time.monotonic() + self.save_seconds
        self._worker.send_signal(signal.SIGUSR2)
        while not _ended(self._worker) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if _ended(self._worker) and (status := self._worker.wait()) != SAVED and not _was_asked(status):
            self._leave(status, 0)
        return DelayedSubmission(replace(self))

    def _start(self, here: Allocation) -> subprocess.Popen[bytes]:
        what = ("work", self.run) if here.rank == 0 else ("ray", "join", self.run)
        log = Path(self.run) / (WORKER_LOG if here.rank == 0 else f"logs/node-{here.rank}.log")
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            output.write(f"-- job {here.key} on {here.here}\n".encode())
            output.flush()
            command = ["env", *self.settings, sys.executable, "-u", "-m", "tau2_exp", *what]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def _leave(self, status: int, rank: int) -> NoReturn:
        """Exit with the worker's status; after a failure, record it also in the runs that depend on this one."""
        if _was_asked(status):  # before it could hear
            status = SAVED
        if status and status != SAVED and rank == 0:
            run = Run.open(self.run)
            if status < 0:
                killed = " (most often: out of memory)" if status == -signal.SIGKILL else ""
                run.fail(f"the worker was killed by {signal.Signals(-status).name}{killed}")
            for folder in self.dependents:
                dependent = Run.open(folder)
                if dependent.status is not RunStatus.finished:
                    dependent.fail(f"skipped: {run.folder} failed")
        sys.exit(status if status >= 0 else 128 - status)


def _was_asked(status: int) -> bool:
    """Whether a signal to save and end killed a worker that had nothing to save, and no handler yet."""
    return status < 0 and -status in (signal.SIGINT, *ASKED)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; its status is not taken, so that a signal handler may call this meanwhile."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # its status has been taken
        return True


def _queue_again(here: Allocation) -> None:
    """A job that SLURM asked to end by SIGTERM. Where it has decided itself (to cancel, to queue again), leave it."""
    if ask("squeue", "--noheader", f"--jobs={here.job}", "--format=%T").stdout.strip() == "RUNNING":
        ask("scontrol", "requeue", here.job)
