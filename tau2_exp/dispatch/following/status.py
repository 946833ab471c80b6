"""`python -m tau2_exp status | cancel`: show the state of runs and sweeps, and cancel their jobs in the queue."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.following.states import SETTLED, Report, RunState, reports, runs_in, runs_of, with_lineage
from tau2_exp.dispatch.local.sweep import labels, read_sweep, sweep_folders
from tau2_exp.dispatch.slurm.jobs import Submission, read_jobs, within
from tau2_exp.dispatch.slurm.queue import cancel, look_up
from tau2_exp.runs.run import Run, RunStatus

if TYPE_CHECKING:
    from tau2_exp.dispatch.local.board import Line

POLL_SECONDS = 2.0
PLAIN_WIDTH = 200  # of the table where there is no terminal


def register(commands: argparse._SubParsersAction) -> None:
    """Add `status` and `cancel` to a parser's subcommands."""
    for name, run, what in (
        ("status", _status, "show the state of runs and sweeps, and of the runs they depend on"),
        (
            "cancel",
            _cancel,
            "cancel the jobs of runs and sweeps; saved work is kept, and resume=FOLDER continues it",
        ),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
        command.set_defaults(run=run)


def attend(folder: Path) -> list[Report]:
    """Show a live table until all runs of `folder` have ended; returns the last reports."""
    from tau2_exp.dispatch.local.board import Board

    runs, titles = runs_of(folder), run_titles(folder)
    told = reports(runs)

    with Board(lambda: [_line(report, titles) for report in told]) as board:
        before: list[Report] = []
        while True:
            board.update()
            # A job that lost its node is over for a moment before it is in the queue again: look twice.
            if _settled(told) and _settled(before):
                return told
            time.sleep(POLL_SECONDS)
            before, told = told, reports(runs)


def run_titles(folder: Path) -> dict[Path, str]:
    """A title for each run of a sweep, by its resolved folder: its job's overrides, or how many jobs share it.

    Empty for a single run.
    """
    if not (folder / "sweep.json").is_file():
        return {}
    sweep = read_sweep(folder)
    names = labels([job.overrides for job in sweep.jobs])
    users: dict[Path, list[int]] = {}
    for place, target in enumerate(sweep_folders(folder, sweep)):
        for run in with_lineage([Run(target)]):
            users.setdefault(run.folder.resolve(), []).append(place)
    return {
        path: names[places[0]] if len(places) == 1 else f"(shared by {len(places)} jobs)"
        for path, places in users.items()
    }


def _settled(told: Sequence[Report]) -> bool:
    return bool(told) and all(report.state in SETTLED for report in told)


def _line(report: Report, titles: dict[Path, str]) -> Line:
    from tau2_exp.dispatch.local.board import Line

    run = report.run
    title = titles.get(run.folder.resolve(), run.folder.name)
    detail = " ".join(part for part in (f"job {report.job}" if report.job else "", report.detail) if part)
    return Line(
        title, report.state.value, run if report.state is not RunState.unknown else None, report.seconds, detail
    )


def _status(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from tau2_exp.dispatch.local.board import table

    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    for folder in arguments.folders:
        told, titles = reports(runs_in(folder)), run_titles(folder)
        console.print(table([_line(report, titles) for report in told], details=True))
        for report in told:
            if report.state in (RunState.failed, RunState.lost, RunState.unknown):
                print(f"{report.state.value}: {report.run.folder}: {report.detail}")
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    for folder in arguments.folders:
        submission = read_jobs(folder)
        if submission is None:
            _nothing_to_cancel(folder)
            continue
        whole = read_jobs(within(folder, submission.whole)) or submission
        entries = look_up(job.id for job in whole.jobs)
        live = {job.id for job in whole.jobs if job.id in entries and entries[job.id].live}
        own = {job.id for job in whole.jobs} if whole == submission else {submission.jobs[-1].id}
        ids = [job for job in _with_what_only_they_need(whole, own, live) if job in live]
        cancel(ids)
        print(f"{folder}: cancelled {', '.join(ids)}" if ids else f"{folder}: nothing in the queue")
    return 0


def _with_what_only_they_need(whole: Submission, own: set[str], live: set[str]) -> list[str]:
    """These jobs, and those before them that no other live job waits for."""
    chosen = set(own)
    for job in reversed(whole.jobs):
        users = {other.id for other in whole.jobs if job.id in other.after and other.id in live}
        if users and users <= chosen:
            chosen.add(job.id)
    return [job.id for job in whole.jobs if job.id in chosen]


def _nothing_to_cancel(folder: Path) -> None:
    """Raises ConfigError where a process of this machine, and no job, does the run."""
    for run in runs_of(folder):
        if run.status is RunStatus.running:
            raise ConfigError(f"{run.folder}: is no job of SLURM; end it with Ctrl-C where it was started")
    print(f"{folder}: nothing in the queue")
