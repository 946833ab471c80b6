"""The process of one part: does it, tells what it found, and ends with the check that started it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback

from benchmarks.gpu_check.report import Report, reason
from benchmarks.gpu_check.settings import Settings


def work(name: str, settings: Settings, descriptor: int) -> int:
    """Do the part `name`; its records go to the file `descriptor` as lines of JSON."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    with os.fdopen(descriptor, "w") as stream:
        report = Report(name, stream)
        try:
            importlib.import_module(f"benchmarks.gpu_check.{name}").run(settings, report)
        except Exception as error:
            traceback.print_exc()
            report.fail(name, reason(error))
    return 1 if report.failures else 0


def _end_with_starter() -> None:
    """Standard input is a pipe that closes when the check ends, however it ends; what this part started ends too."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)
