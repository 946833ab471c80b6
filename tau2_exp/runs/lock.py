"""The lock of a run's folder: one process works on a run at a time. A killed process releases it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".lock"


def is_locked(folder: Path) -> bool:
    """Whether some process holds the lock."""
    path = folder / FILE
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock; waits while another process holds it, and says so."""
    with (folder / FILE).open("w") as lock:
        if is_locked(folder):
            print(f"{folder.name}: another process is running it; waiting", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
