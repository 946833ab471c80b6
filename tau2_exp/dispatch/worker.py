"""A worker: does frozen runs one after another, and reads nothing but their folders."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tau2_exp.config import ConfigError, HardwareConfig
from tau2_exp.rundir import Run, RunStatus

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def work(folders: Sequence[Path], attended: bool = False) -> int:
    """Do the runs of these folders, in order; the exit status: 0, or that of the first which did not end well.

    `attended` ends the worker when standard input closes: it does not outlive who started it.
    """
    signal.signal(signal.SIGTERM, _terminated)
    if attended:
        threading.Thread(target=_end_with_starter, daemon=True).start()
    for folder in folders:
        run = Run.open(folder)
        with run.claim():
            if run.status is not RunStatus.finished and (status := _work(run)):
                return status
    return 0


def _work(run: Run) -> int:
    try:
        run.record(hardware=_hardware(run.config.hardware))
        importlib.import_module("tau2_exp.stages").run_stage(run)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asked once is enough
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run.close()
        print(f"\n{run.folder}: interrupted; the same command goes on with it", file=sys.stderr)
        return INTERRUPTED
    except ConfigError as error:
        run.fail(str(error))
        print(f"error: {error} (run {run.folder})", file=sys.stderr)
        return REFUSED
    except Exception as error:
        reason = " ".join(str(error).split()) or "no message"
        run.fail(f"{type(error).__name__}: {reason}", traceback.format_exc())
        print(f"failed: {run.folder}: {run.failure} (all of it: {run.folder}/failure.json)", file=sys.stderr)
        return FAILED
    if run.status is not RunStatus.finished:
        raise RuntimeError(f"{run.folder}: stage {run.stage} returned without results")
    return 0


def _hardware(hardware: HardwareConfig) -> dict[str, Any]:
    """What the run is done on. Raises ConfigError where the device is not there."""
    facts: dict[str, Any] = {
        "host": platform.node(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": hardware.device,
    }
    if hardware.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"hardware.device={hardware.device}: torch sees no GPU here; take hardware=cpu")
        facts["gpu"] = torch.cuda.get_device_name(hardware.device)
    return facts


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _end_with_starter() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
