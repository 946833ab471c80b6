"""The progress of a plan on the terminal: a line for each event, and one line that is redrawn on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tau2_exp.runs.progress import FILE, read_progress

LINE_EVERY = 60.0  # seconds, where there is no terminal
MOVE_EVERY = 0.5


class PlanProgress:
    """Prints the running commands of a plan, with the progress that its run notes in `folder`.

    `skipped` are the names of commands that were already done.
    """

    def __init__(self, folder: Path, skipped: Sequence[str]):
        self._folder = folder
        self._moving = sys.stdout.isatty()
        self._last = time.time()
        if skipped:
            self.say(f"already done: {', '.join(skipped)}")

    def __enter__(self) -> PlanProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def say(self, line: str) -> None:
        """Erase the line that is redrawn, and print this one."""
        self._clear()
        print(line, flush=True)

    def tick(self, running: Mapping[str, float], working: float) -> None:
        """Print or redraw the line of progress, at most once in LINE_EVERY (on a terminal: MOVE_EVERY) seconds.

        `running` has the seconds since each command began; `working`, those since the oldest that is no server began.
        """
        now = time.time()
        if not running or now - self._last < (MOVE_EVERY if self._moving else LINE_EVERY):
            return
        self._last = now
        line = ", ".join(f"{name} {clock(seconds)}" for name, seconds in running.items()) + self._progress(
            now - working
        )
        if self._moving:
            self._clear()
            print(line[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        else:
            print(line, flush=True)

    def _progress(self, since: float) -> str:
        """The progress that the run has noted since the time `since`; empty without any."""
        path = self._folder / FILE
        if not path.exists() or path.stat().st_mtime < since:
            return ""
        progress = read_progress(self._folder)
        if progress is None:
            return ""
        values = " ".join(f"{name} {value:.3g}" for name, value in progress.values.items())
        left = f", {clock(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        return f" – {progress.label}: {progress.done}/{progress.total} {values}{left}"

    def _clear(self) -> None:
        if self._moving:
            print("\r\033[K", end="", flush=True)


def clock(seconds: float) -> str:
    """`7 s`, `3:05`, `2:03:05`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
