"""What a process prints, on its terminal and in a log: the log goes on where the terminal is gone."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO


class Screen(io.TextIOBase):
    """A terminal that may be closed: what is written to it then is lost, and raises nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._given = stream
        self._open = True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The terminal's encoding."""
        return self._given.encoding

    def write(self, text: str) -> int:
        """Write to the terminal while it is open; returns the length of the text."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush the terminal while it is open."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether it is a terminal that is still open."""
        return self._open and self._given.isatty()

    def fileno(self) -> int:
        """The terminal's file descriptor."""
        return self._given.fileno()

    def _try(self, what: str, *arguments: str) -> None:
        if self._open:
            try:
                getattr(self._given, what)(*arguments)
            except OSError:
                self._open = False


class Tee(io.TextIOBase):
    """A stream that writes to a screen and to a log. `screen` may be exchanged while a bar is drawn on it."""

    def __init__(self, screen: Any, log: TextIO) -> None:
        self.screen, self.log = screen, log

    def write(self, text: str) -> int:
        """Write to the screen and the log, and flush the log; returns the length of the text."""
        self.screen.write(text)
        self.log.write(text)
        self.log.flush()
        return len(text)

    def flush(self) -> None:
        """Flush the screen; the log is flushed at every write."""
        self.screen.flush()

    def isatty(self) -> bool:
        """Whether the screen is a terminal."""
        return bool(self.screen.isatty())

    def fileno(self) -> int:
        """The screen's file descriptor."""
        return int(self.screen.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The screen's encoding."""
        return str(self.screen.encoding)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Copy what the block prints to a log too, unless it goes there already. Raises OSError where that cannot be."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        if _same(sys.stdout, log):
            yield
            return
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(Screen(before[0]), log), Tee(Screen(before[1]), log)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in before:
                with suppress(OSError):
                    stream.flush()


def _same(stream: TextIO, log: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.fstat(log.fileno()))
    except (OSError, ValueError):
        return False
