"""A server's process and all that it starts: in a session of their own, ended together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE_SECONDS = 5.0  # a server has to end after it was asked to; less than whoever started this process waits
POLL_SECONDS = 0.1
TAIL_LINES = 15


class ServerProcess:
    """Runs `argv` with its output appended to `log`; dies with this process, however that ends.

    `shared` are descriptors that it inherits.
    """

    def __init__(self, argv: Sequence[str], log: Path, shared: Sequence[int] = ()):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=shared,
                preexec_fn=_ends_with(os.getpid()),
            )

    @property
    def dead(self) -> bool:
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def tail(self) -> str:
        """The last lines that it wrote."""
        with self._log.open("rb") as log:
            log.seek(self._began)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])

    def end(self) -> None:
        """End it and all that it started, gently first. It is reaped last: until then its group's number is its own."""
        if self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while not self.dead and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left of the group


def _ends_with(parent: int) -> Callable[[], None]:
    """What the child does before its program begins: it asks the kernel to be killed when `parent` dies."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
