"""`python -m tau2_exp logs`: what the workers, servers and jobs of runs and sweeps write, now or as it comes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tau2_exp.dispatch.following.states import SETTLED, members_of, reports, runs_of, starts_of
from tau2_exp.dispatch.slurm.jobs import job_of, within
from tau2_exp.runs.run import Run, RunStatus

POLL_SECONDS = 0.5
LOOK_SECONDS = 5.0  # between questions whether more is to come
LINES = 20


def register(commands: argparse._SubParsersAction) -> None:
    """Add `logs` to a parser's subcommands."""
    command = commands.add_parser("logs", help="print the logs of runs and sweeps")
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--follow", action="store_true", help="keep printing until all runs have ended")
    command.add_argument(
        "--lines", type=int, default=LINES, metavar="N", help=f"lines of each file to begin with (default {LINES})"
    )
    command.set_defaults(run=_logs)


def _logs(arguments: argparse.Namespace) -> int:
    tails = _Tails(arguments.folders, arguments.lines)
    if not arguments.follow:
        if not tails.update():
            print(tails.silence)
        return 0
    settled = 0
    while settled < 2:  # a job that lost its node is over for a moment before it is in the queue again
        deadline = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < deadline:
            tails.update()
            time.sleep(POLL_SECONDS)
        told = [report for folder in arguments.folders for report in reports(runs_of(folder))]
        settled = settled + 1 if all(report.state in SETTLED for report in told) else 0
    tails.update()
    return 0


class _Tails:
    """The ends of files, and then what is added to them, under a heading wherever the file changes."""

    def __init__(self, folders: Sequence[Path], lines: int) -> None:
        """The last `lines` of each file come first. Unfinished runs that the folders depend on are included."""
        self._folders, self._lines = folders, lines
        self._runs = [run for folder in folders for run in _shown(folder)]
        self._read: dict[Path, int] = {}
        self._last: Path | None = None

    def update(self) -> bool:
        """Print what is new; whether anything was printed so far."""
        for path in self._files():
            with path.open("rb") as file:
                file.seek(self._read[path] if path in self._read else _start(path, self._lines))
                new = file.read()
                self._read[path] = file.tell()
            if new:
                if path != self._last:
                    print(f"==> {path}")
                self._last = path
                sys.stdout.write(new.decode(errors="replace"))
                sys.stdout.flush()
        return self._last is not None

    @property
    def silence(self) -> str:
        """Why nothing was printed."""
        if any(run.manifest.hardware for run in self._runs):
            return "This run has no log file: it printed to the terminal (or see the sweep's logs/)."
        if not any(members_of(run) for run in self._runs):
            return "Nothing has been logged yet."
        stages = [f"{run.folder.name} {run.status.value}" for run in self._runs if not members_of(run)]
        return f"No output yet; its stages: {', '.join(stages)}."

    def _files(self) -> list[Path]:
        """All logs, and what SLURM wrote of the jobs."""
        found = [path for folder in self._folders for path in sorted(folder.glob("logs/*.log"))]
        found += [path for run in self._runs for path in _of(run) if path.exists()]
        return list({path.resolve(): path for path in found}.values())


def _start(path: Path, lines: int) -> int:
    """The offset of the last so many lines."""
    content = path.read_bytes()
    end = len(content) - 1 if content.endswith(b"\n") else len(content)
    for _ in range(lines):
        end = content.rfind(b"\n", 0, max(end, 0))
        if end < 0:
            return 0
    return end + 1


def _shown(folder: Path) -> list[Run]:
    starts = {one.folder.resolve() for run in starts_of(folder) for one in (run, *members_of(run))}
    runs = runs_of(folder)
    return [run for run in runs if run.folder.resolve() in starts or run.status is not RunStatus.finished]


def _of(run: Run) -> list[Path]:
    job = job_of(run.folder)
    return [*([within(run.folder, job.output)] if job else []), *sorted(run.folder.glob("logs/*.log"))]
