"""The states of jobs: a live table on a terminal, else a line for each change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tau2_exp.runs.run import Run, RunStatus


@dataclass(frozen=True)
class Line:
    """What a board shows of one job now, wherever it runs."""

    title: str
    state: str
    run: Run | None = None  # the one being done
    seconds: float | None = None
    detail: str = ""  # shown where there is no terminal: a log, a reason


class Board:
    """A context manager that shows jobs. `lines` and `heading` are called at each update; a job keeps its index."""

    def __init__(self, lines: Callable[[], Sequence[Line]], heading: Callable[[], str] = str) -> None:
        self._lines, self._heading = lines, heading
        self._told: dict[int, str] = {}
        self._live = Live(self._drawn(), refresh_per_second=2) if sys.stdout.isatty() else None

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        elif heading := self._heading():
            print(heading, flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.update(self._drawn(), refresh=True)
            self._live.stop()

    def update(self) -> None:
        """Redraw the table; without a terminal, print a line for each job whose state has changed."""
        if self._live:
            self._live.update(self._drawn())
            return
        for place, line in enumerate(self._lines()):
            if self._told.get(place, "waiting") != line.state:
                self._told[place] = line.state
                print(f"{line.state:9}{line.title}  {line.detail}".rstrip(), flush=True)

    def _drawn(self) -> Group | Table:
        heading, shown = self._heading(), table(self._lines())
        return Group(Text(heading, overflow="fold"), shown) if heading else shown


def table(lines: Sequence[Line], details: bool = False) -> Table:
    """A table with a row for each job; `details` adds the column of details."""
    heads = ["job", "state", "stage", "progress", "reward", "time", "time left", *(["detail"] if details else [])]
    made = Table(*heads, box=None)
    for line in lines:
        cells = [line.title, line.state, *_progress(line.run), _time(line.seconds), _left(line.run)]
        made.add_row(*(escape(cell) for cell in (*cells, *([line.detail] if details else []))))
    return made


def current(runs: Sequence[Run]) -> Run | None:
    """Of runs done one after another, the first that is not finished."""
    return next((run for run in runs if run.status is not RunStatus.finished), None)


def _progress(run: Run | None) -> tuple[str, str, str]:
    """Stage, how far it is, and its newest reward (loss where it has none)."""
    if run is None:
        return "", "", ""
    progress = run.progress
    if progress is None:
        return run.stage, "", ""
    value = progress.values.get("reward", progress.values.get("loss"))
    name = "" if "reward" in progress.values or value is None else "loss "
    return run.stage, f"{progress.done}/{progress.total}", "" if value is None else f"{name}{value:.3g}"


def _left(run: Run | None) -> str:
    progress = run.progress if run else None
    return _time(progress.seconds_left) if progress else ""


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
