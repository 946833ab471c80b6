"""Processes that end with the process that started them, and with everything that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tau2_exp.system.code import ROOT

GRACE_SECONDS = 20.0  # to end after being asked to
INNER_GRACE_SECONDS = 15.0  # the same, where who asks has itself been asked
POLL_SECONDS = 0.05
# What asks a process to end, beside Ctrl-C: anybody, a terminal that closes, SLURM before a job's time is over.
ASKED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
PYTHONS = ("python", "python3")
# Before all else on the path: who works for us reads the same code, in whichever folder it starts.
WITH_CODE = ("sh", "-c", 'PYTHONPATH="$0${PYTHONPATH:+:$PYTHONPATH}" exec "$@"', str(ROOT))


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    log: Path | None = None,
    cwd: str | None = None,
    shared: Sequence[int] = (),
    at_death: str = "TERM",
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, with `env` added to the environment; its output is appended to `log`.

    It inherits the descriptors `shared`, and gets the signal `at_death` when this process dies, even by SIGKILL. Raises
    OSError where `cwd` is not there.
    """
    settings = [f"{name}={value}" for name, value in env.items()]
    command = ["setpriv", "--pdeathsig", at_death, "--", "env", *settings, *WITH_CODE, *with_this_python(argv)]
    if log is None:
        return subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=shared)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=shared,
        )


def with_this_python(argv: Sequence[str]) -> list[str]:
    """The command, with `python` and the programs installed with it taken from this environment."""
    if argv[0] in PYTHONS:
        return [sys.executable, *argv[1:]]
    beside = Path(sys.executable).parent / argv[0]
    return [str(beside) if beside.is_file() else argv[0], *argv[1:]]


def status_of(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit status, or minus the signal that ended it; None while it runs. It is not reaped, so its pid stays its
    own.
    """
    if process.returncode is not None:
        return process.returncode
    told = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if told is None:
        return None
    return told.si_status if told.si_code == os.CLD_EXITED else -told.si_status


def end(processes: Sequence[subprocess.Popen[bytes]], seconds: float = GRACE_SECONDS) -> None:
    """Send SIGTERM to these processes, wait up to `seconds`, then kill what is left of their groups."""
    for process in processes:
        if status_of(process) is None:
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(status_of(process) is None for process in processes):
        time.sleep(POLL_SECONDS)
    for process in processes:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def heard(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those of these signals that this process does not ignore (nohup and a shell's background ignore some)."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def terminable() -> Iterator[None]:
    """Inside the block, a signal that asks to end (ASKED) raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        if number == signal.SIGHUP:  # shell and kernel both tell that a terminal is gone: that is no second request
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = heard(ASKED) if _in_main_thread() else []  # a library's caller: no signal comes there
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside the block, which takes seconds, signals that ask to end are held back; the first is raised after it."""
    told: list[int] = []
    signals = heard((signal.SIGINT, *ASKED)) if _in_main_thread() else []
    before = {number: signal.signal(number, lambda number, _frame: told.append(number)) for number in signals}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        for number in told[:1]:
            signal.raise_signal(number)


def how_it_ended(status: int) -> str:
    """An exit status in words; a negative one is the signal that ended the process."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def last_lines(log: Path, count: int) -> list[str]:
    """At most `count` of the last lines that are not blank; empty where there is no log."""
    if not log.exists():
        return []
    with log.open(errors="replace") as lines:
        return list(deque((line.rstrip() for line in lines if line.strip()), maxlen=count))
