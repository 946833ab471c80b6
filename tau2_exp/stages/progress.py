"""What a person sees while a stage works: a bar where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time

from tau2_exp.runs.progress import Progress
from tau2_exp.runs.run import Run

_LINE_EVERY = 10.0  # seconds between plain lines
_NOTE_EVERY = 1.0  # seconds between notes in the run's folder


class ProgressBar:
    """`with ProgressBar("rft", 148, run) as bar: bar.advance(reward=0.5)`; the last values given stay shown.

    The same is noted in the run's folder, for whoever looks from elsewhere. A debugger needs the terminal for itself:
    with `debug=true` there are plain lines.
    """

    def __init__(self, label: str, total: int, run: Run, done: int = 0):
        self.label, self.total, self.folder, self.done, self.began = label, total, run.folder, done, done
        self.values: dict[str, float] = {}
        self.started = time.monotonic()
        self._last_line = self._last_note = self.started
        self._bar = _rich_bar(label, total, done) if sys.stdout.isatty() and not run.config.debug else None

    def __enter__(self) -> ProgressBar:
        if self._bar:
            self._bar.start()
        self._note()
        return self

    def __exit__(self, *_: object) -> None:
        self._note()
        if self._bar:
            self._bar.stop()
        else:
            self._line()

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        self.values |= values
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=self.done, values=self._values())
        elif time.monotonic() - self._last_line > _LINE_EVERY:
            self._line()
        if time.monotonic() - self._last_note > _NOTE_EVERY:
            self._note()

    def _note(self) -> None:
        self._last_note = time.monotonic()
        seconds = self._last_note - self.started
        Progress(self.label, self.done, self.total, self.began, seconds, self.values).write(self.folder)

    def _line(self) -> None:
        self._last_line = time.monotonic()
        seconds = self._last_line - self.started
        print(f"{self.label}: {self.done}/{self.total} {self._values()} {seconds:.0f} s".replace("  ", " "), flush=True)

    def _values(self) -> str:
        return " ".join(f"{name} {value:.3g}" for name, value in self.values.items())


class RunningMean:
    """The mean of all that was added."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> float:
        """The mean with this one."""
        self.total, self.count = self.total + value, self.count + 1
        return self.total / self.count


def _rich_bar(label: str, total: int, done: int):
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar.add_task(label, total=total, completed=done, values="")
    return bar
