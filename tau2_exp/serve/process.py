"""A server's process and all that it starts: in a session of their own, ended together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tau2_exp.system.processes import end, start, status_of

GRACE_SECONDS = 5.0  # a server has to end after it was asked to; less than whoever started this process waits
TAIL_LINES = 15


class ServerProcess:
    """Runs `argv` with its output appended to `log`; dies with this process, however that ends.

    `shared` are descriptors that it inherits.
    """

    def __init__(self, argv: Sequence[str], log: Path, shared: Sequence[int] = ()):
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch(mode=0o600)
        log.chmod(0o600)  # SGLang writes its settings there, the token among them
        self._began = log.stat().st_size if log.exists() else 0
        self._process = start(argv, {}, log, shared=shared, at_death="KILL")

    @property
    def dead(self) -> bool:
        """Whether the process has ended."""
        return status_of(self._process) is not None

    def tail(self) -> str:
        """The last lines of its output, at most TAIL_LINES, indented."""
        with self._log.open("rb") as log:
            log.seek(self._began)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])

    def end(self) -> None:
        """End it and all that it started, first by SIGTERM; a second call does nothing."""
        end([self._process], GRACE_SECONDS)
