"""Tasks as processes of this machine: one attached to the terminal, or several side by side."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from tau2_exp.config import HardwareConfig
from tau2_exp.dispatch.resources import usable_gpus
from tau2_exp.dispatch.tasks import Task
from tau2_exp.runs.run import Run
from tau2_exp.system.processes import WITH_CODE, terminable

# -P: nothing in the folder that it starts in is taken for a library.
WORKER = (*WITH_CODE, sys.executable, "-P", "-u", "-m", "tau2_exp", "work", "--attended")
POLL_SECONDS = 0.2
GRACE_SECONDS = 30.0  # a worker has to save and end; what a plan started has 20 of them
LAST_SECONDS = 2.0  # it has to end at once


# Workers that nobody waits for: one whose object is dropped is told to end.
_behind: list[subprocess.Popen] = []


class State(str, Enum):
    """The state of a job on this machine."""

    waiting = "waiting"
    running = "running"
    finished = "finished"
    failed = "failed"
    skipped = "skipped"  # something it needs failed


@dataclass
class Job:
    """A task and the process that does it. `began` and `ended` are seconds of the monotonic clock, 0 before."""

    task: Task
    log: Path
    state: State = State.waiting
    process: subprocess.Popen | None = None
    slot: int = 0
    began: float = 0.0
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """How many seconds the process has run; 0 before it begins."""
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


def run_attached(runs: Sequence[Run]) -> int:
    """Do the runs in one process whose output is this terminal's; its exit status."""
    with terminable():
        process = _start(runs, runs[0].config.hardware, None, None)
        try:
            return process.wait()
        finally:
            _end([process])


def run_behind(runs: Sequence[Run], log: Path) -> None:
    """Start a process that does the runs and writes to `log`; when this process ends, it saves and ends too."""
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        _behind.append(_start(runs, runs[0].config.hardware, output, None))


def run_side_by_side(jobs: Sequence[Job], hardware: HardwareConfig, show: Callable[[], None]) -> None:
    """Do all jobs, each as soon as what it needs is done and a slot is free; a failed one stops only its dependents.

    A slot is a device, or a core for each thread of a process. `show` is called again and again while they run.
    """
    free = list(range(slots(hardware)))
    with terminable():
        try:
            while any(job.state in (State.waiting, State.running) for job in jobs):
                for job in jobs:
                    _advance(job, jobs, free, hardware)
                show()
                time.sleep(POLL_SECONDS)
        finally:
            _end([job.process for job in jobs if job.process])
    show()


def slots(hardware: HardwareConfig) -> int:
    """How many processes go side by side; runs that take several GPUs go one after another."""
    if hardware.gpus > 1:
        return 1
    if hardware.jobs:
        return hardware.jobs
    if hardware.device.startswith("cuda:"):
        return 1  # that device alone
    if hardware.device == "cuda":
        return max(1, len(usable_gpus()))
    return max(1, len(os.sched_getaffinity(0)) // hardware.threads)


def settings(hardware: HardwareConfig) -> list[str]:
    """What libraries read from their environment before Python runs, as arguments of `env`."""
    return [f"OMP_NUM_THREADS={hardware.threads}", "OMP_WAIT_POLICY=passive", "TOKENIZERS_PARALLELISM=false"]


def _advance(job: Job, jobs: Sequence[Job], free: list[int], hardware: HardwareConfig) -> None:
    if job.state is State.running:
        assert job.process is not None
        if (status := job.process.poll()) is not None:
            job.state = State.failed if status else State.finished
            job.ended = time.monotonic()
            free.append(job.slot)
    elif job.state is State.waiting:
        needed = [other.state for other in jobs if other.task in job.task.needs]
        if State.failed in needed or State.skipped in needed:
            job.state = State.skipped
        elif free and all(state is State.finished for state in needed):
            job.slot = free.pop(0)
            alone = hardware.device == "cuda" and hardware.gpus <= 1
            devices = usable_gpus() if alone else []
            device = devices[job.slot % len(devices)] if devices else None
            with job.log.open("ab") as log:
                job.process = _start(job.task.runs, hardware, log, device)
            job.state, job.began = State.running, time.monotonic()


def _start(
    runs: Sequence[Run], hardware: HardwareConfig, log: IO[bytes] | None, device: str | None
) -> subprocess.Popen:
    environment = settings(hardware)
    if device is not None:
        environment.append(f"CUDA_VISIBLE_DEVICES={device}")
    work = [*WORKER, *(str(run.folder) for run in runs)]
    # Standard input is a pipe that closes when this process ends, however it ends.
    errors = subprocess.STDOUT if log else None
    return subprocess.Popen(["env", *environment, *work], stdin=subprocess.PIPE, stdout=log, stderr=errors)


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Have running processes save and end; Ctrl-C meanwhile sends the next, harder signal."""
    if any(process.poll() is None for process in processes):
        with suppress(OSError):  # the terminal may be gone
            print("stopping after it has saved; Ctrl-C once more stops it at once", file=sys.stderr, flush=True)
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGINT, LAST_SECONDS), (signal.SIGKILL, math.inf)):
        try:
            _tell(processes, number, seconds)
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue


def _tell(processes: Sequence[subprocess.Popen], number: signal.Signals, seconds: float) -> None:
    """Raises TimeoutExpired where some of them still run after so many seconds."""
    for process in processes:
        process.send_signal(number)
    deadline = time.monotonic() + seconds
    for process in processes:
        process.wait(max(0.0, deadline - time.monotonic()))
