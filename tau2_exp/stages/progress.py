"""The progress of a stage on the terminal: a bar, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time

from tau2_exp.runs.progress import Progress
from tau2_exp.runs.run import Run
from tau2_exp.system.tee import Tee

_LINE_EVERY = 10.0  # seconds between plain lines
_NOTE_EVERY = 1.0  # seconds between notes in the run's folder


class ProgressBar:
    """`with ProgressBar("rft", 148, run) as bar: bar.advance(reward=0.5)`; the last values given stay shown.

    The label names stage and step. Progress is also written to the run's folder, for other processes; where output is
    logged, the log has plain lines. With `debug=true` there is no bar, since a debugger needs the terminal.
    """

    def __init__(self, label: str, total: int, run: Run, done: int = 0):
        self.label, self.total, self.folder, self.done, self.began = label, total, run.folder, done, done
        self.values: dict[str, float] = {}
        self.started = time.monotonic()
        self._last_line = self._last_note = self.started
        self._told: tuple[int, str] | None = None  # by the last plain line
        self._bar = _LiveBar(label, total, done) if sys.stdout.isatty() and not run.config.debug else None

    def __enter__(self) -> ProgressBar:
        if self._bar:
            self._bar.start()
        self._note()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        self._line()
        self._note()

    def advance(self, count: int = 1, **values: float) -> None:
        """Count `count` more as done, and show these values."""
        self.done += count
        self.values |= values
        if self._bar:
            self._bar.update(self.done, self._values())
        if time.monotonic() - self._last_line > _LINE_EVERY:
            self._line()
        if time.monotonic() - self._last_note > _NOTE_EVERY:
            self._note()

    def _note(self) -> None:
        self._last_note = time.monotonic()
        seconds = self._last_note - self.started
        Progress(self.label, self.done, self.total, self.began, seconds, self.values).write(self.folder)

    def _line(self) -> None:
        """A plain line, where there is no bar; nothing is said twice."""
        self._last_line = time.monotonic()
        now = self.done, self._values()
        if now == self._told:
            return
        self._told = now
        seconds = self._last_line - self.started
        line = f"{self.label}: {self.done}/{self.total} {self._values()} {seconds:.0f} s".replace("  ", " ")
        if self._bar is None:
            print(line, flush=True)
        elif isinstance(sys.stdout, Tee):
            sys.stdout.log.write(f"{line}\n")

    def _values(self) -> str:
        return " ".join(f"{name} {value:.3g}" for name, value in self.values.items())


class RunningMean:
    """The mean of all values added so far."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> float:
        """Add a value, and return the mean of all."""
        self.total, self.count = self.total + value, self.count + 1
        return self.total / self.count


class _LiveBar:
    """A bar on the terminal; other output appears above it, and reaches the log unchanged."""

    def __init__(self, label: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._logged = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Tee)]
        self._screens = [stream.screen for stream in self._logged]
        self._console = Console(file=self._screens[0]) if self._logged else Console()
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            redirect_stdout=not self._logged,
            redirect_stderr=not self._logged,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, values="")

    def start(self) -> None:
        from rich.file_proxy import FileProxy

        for stream, screen in zip(self._logged, self._screens, strict=True):
            stream.screen = FileProxy(self._console, screen)
        self._bar.start()

    def update(self, done: int, values: str) -> None:
        self._bar.update(self._task, completed=done, values=values)

    def stop(self) -> None:
        self._bar.stop()
        for stream, screen in zip(self._logged, self._screens, strict=True):
            stream.screen.flush()
            stream.screen = screen
