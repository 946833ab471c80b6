"""A worker: does frozen runs one after another, and reads nothing but their folders."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
import threading
import time
import traceback
from bdb import BdbQuit
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from tau2_exp.config import Config, ConfigError, EngineName
from tau2_exp.dispatch.resources import asks_for_gpus, check_gpus, gpu_names
from tau2_exp.dispatch.slurm.jobs import WORKER_LOG
from tau2_exp.llm.secrets import masked
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.system.errors import first_error
from tau2_exp.system.processes import ASKED, heard
from tau2_exp.system.tee import logged

FAILED, REFUSED, SAVED, INTERRUPTED = 1, 2, 75, 130
SIGNALS = (signal.SIGINT, *ASKED)  # save and end
SIGNAL_SECONDS = 1.0  # a signal to a whole job reaches this process within that time, if it ended what the run started


def work(folders: Sequence[Path], attended: bool = False) -> int:
    """Do the runs of these folders, in order; the exit status: 0, or that of the first run that failed.

    SIGNALS mean: save and end. The status is then SAVED, and the same command continues. Where `attended`, the end of
    standard input means the same, so that the worker ends with its parent.
    """
    stop = _Stop()
    for number in heard(SIGNALS):
        signal.signal(number, stop)
    if attended:
        threading.Thread(target=_end_with_starter, daemon=True).start()
    try:
        for folder in folders:
            stop.run = run = Run.open(folder)
            with run.claim(), logged(run.folder / WORKER_LOG):
                if run.status is not RunStatus.finished and (status := _work(run, stop)):
                    return status
    except KeyboardInterrupt:  # between two runs, or while another process holds one
        return stop.status
    return 0


def work_here(runs: Sequence[Run]) -> None:
    """`debug=true`: do the runs in this process, one after another. Errors are recorded, and propagate."""
    for run in runs:
        with run.claim():
            if run.status is not RunStatus.finished:
                _debug(run)


def _debug(run: Run) -> None:
    began = time.monotonic()
    try:
        run.record(hardware=_hardware(run.config))
        importlib.import_module("tau2_exp.stages").run_stage(run)
    except BdbQuit:  # the debugger was left: an interruption
        raise KeyboardInterrupt from None
    except Exception as error:
        _note(run, error)
        raise
    finally:
        run.close()
        run.record(seconds=time.monotonic() - began)


def _note(run: Run, error: Exception) -> str:
    """Say in the run's folder why the attempt ended; where that stands, or why it cannot."""
    try:
        if isinstance(error, ConfigError):
            run.fail(str(error))
        else:
            run.fail(_reason(error), traceback.format_exc())
    except OSError as unwritten:
        return f"failure.json cannot be written: {unwritten.strerror}"
    return f"details: {run.folder}/failure.json"


def _reason(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")


class _Stop:
    """The handler of signals that mean: save and end. Ctrl-C once more means: end at once."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.status = INTERRUPTED
        self._asked = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            if number != signal.SIGINT:  # who started this passes on what a terminal has told already
                return
            self.status = INTERRUPTED
            raise KeyboardInterrupt
        self._asked, self.status = True, SAVED
        if self.run is None or self.run.stop():
            raise KeyboardInterrupt


def _work(run: Run, stop: _Stop) -> int:
    began = time.monotonic()
    try:
        return _attempt(run, stop)
    finally:
        with suppress(OSError, ConfigError):  # how long it took is no reason to fail
            run.record(seconds=time.monotonic() - began)


def _attempt(run: Run, stop: _Stop) -> int:
    try:
        run.record(hardware=_hardware(run.config))
        _do(run)
    except KeyboardInterrupt:
        for number in SIGNALS:  # asked once is enough
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):
            run.close()
        ended = "stopped and saved" if stop.status == SAVED else "interrupted"
        print(f"\n{run.folder}: {ended}; run the same command to continue", file=sys.stderr)
        return stop.status
    except ConfigError as error:
        _note(run, error)
        print(f"error: {masked(str(error))} (run {run.folder})", file=sys.stderr)
        return REFUSED
    except Exception as error:
        where = _note(run, error)
        print(f"failed: {run.folder}: {_reason(error)} ({where})", file=sys.stderr)
        return FAILED
    if run.status is not RunStatus.finished:
        raise RuntimeError(f"{run.folder}: stage {run.stage} returned without results")
    return 0


def _do(run: Run) -> None:
    try:
        _run_stage(run)
    except ConfigError:
        raise
    except Exception:
        time.sleep(SIGNAL_SECONDS)
        raise


def _run_stage(run: Run) -> None:
    """Raises what ended the stage as it is, outside of any group of exceptions."""
    try:
        importlib.import_module("tau2_exp.stages").run_stage(run)
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors


def _hardware(config: Config) -> dict[str, Any]:
    """What the run is done on. Raises ConfigError where the device is not there."""
    hardware = config.hardware
    facts: dict[str, Any] = {
        "host": platform.node(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": hardware.device,
    }
    if hardware.device.startswith("cuda") and asks_for_gpus(config):
        facts["gpu"] = _gpu(config)
    return facts


def _gpu(config: Config) -> str:
    """The model of the GPUs. Raises ConfigError where the stage's are not there."""
    hardware = config.hardware
    check_gpus(config)
    if config.engine.name is EngineName.slime:
        return gpu_names()[0]
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"hardware.device={hardware.device}: torch sees no GPU here; use hardware=cpu")
    return torch.cuda.get_device_name(hardware.device)


def _end_with_starter() -> None:
    # A signal that this thread were given would not wake the one that handles it.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
