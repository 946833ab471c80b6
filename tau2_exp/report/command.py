"""`python -m tau2_exp report OUTPUTS… [--html DIR] [--files DIR]`: the results of runs and sweeps, compared."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.report.collect import Collection, collect
from tau2_exp.report.trials import Found
from tau2_exp.system.ours import refuse_strangers

EPISODES = 20_000  # in the viewer, unless told otherwise


def register(subparsers: Any) -> None:
    """Add the `report` command to a parser's subcommands."""
    parser = subparsers.add_parser("report", help="compare runs and sweeps: tables, CSV and JSON files, an HTML page")
    parser.add_argument(
        "outputs", nargs="+", type=Path, help="run folders, sweeps, or folders of runs, finished or not"
    )
    parser.add_argument("--html", type=Path, metavar="DIR", help="write a page that opens from disk: DIR/index.html")
    parser.add_argument("--files", type=Path, metavar="DIR", help="write the tables as CSV, and report.json")
    parser.add_argument("--against", metavar="ARM", help="the baseline arm, named by words of its label")
    parser.add_argument(
        "--episodes", type=int, default=EPISODES, metavar="N", help="show at most N episodes in the page"
    )
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write the charts as SVG files, for documents")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="write the pipeline's diagram and chart into a Markdown file"
    )
    parser.set_defaults(run=_command)


def _command(args: argparse.Namespace) -> int:
    request = Request(args.outputs, args.against, args.html, args.files, args.svg, args.readme, args.episodes)
    for part in make_report(request):
        print(part, flush=True)
    return 0


@dataclass(frozen=True)
class Request:
    """What to report on, and what to write beside the text: each a folder, or a README's file; None: not that."""

    outputs: Sequence[Path]  # runs, sweeps, or folders of them
    against: str | None = None  # the arm that others are compared with
    html: Path | None = None
    files: Path | None = None
    svg: Path | None = None
    readme: Path | None = None
    episodes: int = EPISODES  # at most so many in the page


def make_report(request: Request) -> Iterator[str]:
    """The report's text, part by part as it is worked out; writes what is asked for. Raises ConfigError."""
    from tau2_exp.report.answers import answers_text
    from tau2_exp.report.findings import find, find_failures
    from tau2_exp.report.terminal import report_text

    _check(request)
    collection = collect(request.outputs)
    findings = find(collection, request.against)
    yield report_text(findings)
    if told := answers_text(findings):
        yield f"\n{told}"
    if request.html or request.files:
        yield "\nreading episodes …"
        failed = find_failures(findings)
    for folder in filter(None, (request.files, request.html and request.html / "data")):
        from tau2_exp.report.files import write_files

        yield f"tables: {write_files(findings, failed, folder)[-1].parent}"
    if request.html:
        from tau2_exp.report.episodes import write_episodes
        from tau2_exp.report.failures import modes
        from tau2_exp.report.page import EPISODES as FOLDER
        from tau2_exp.report.page import write_page

        chosen, note = choose(collection, request.episodes)
        request.html.mkdir(parents=True, exist_ok=True)
        write_episodes(chosen, request.html / FOLDER, modes)
        yield f"page: {write_page(findings, failed, request.html, note)}"
    if request.svg:
        from tau2_exp.report.drawings import write_drawings

        yield f"charts: {len(write_drawings(findings, request.svg))} files in {request.svg}"
    if request.readme:
        from tau2_exp.report.readme import write_readme

        yield "readme: " + ", ".join(map(str, write_readme(findings, request.readme)))


def _check(request: Request) -> None:
    """Raises ConfigError for what cannot be done, before minutes are spent on it."""
    if (request.html or request.svg or request.readme) and not find_spec("plotly"):
        raise ConfigError("the report draws with plotly, which is not installed: pip install plotly")
    if request.episodes < 0:
        raise ConfigError(f"--episodes {request.episodes}: must be 0 or more")
    if request.html:
        from tau2_exp.report.page import check_replaceable

        check_replaceable(request.html)
    if request.files:
        from tau2_exp.report.files import FILES

        refuse_strangers(request.files, FILES, "--files")
    for option in ("html", "files", "svg"):
        folder: Path | None = getattr(request, option)
        if folder and (file := next((path for path in (folder, *folder.parents) if path.is_file()), None)):
            raise ConfigError(f"--{option} {folder}: {file} is a file; name a folder")
    if request.readme:
        from tau2_exp.report.readme import marked_text

        marked_text(request.readme)


def choose(collection: Collection, most: int) -> tuple[list[Found], str]:
    """The runs whose episodes the viewer holds, in whole runs: evaluations first, then a run of each arm, then others.

    The note says how many episodes were left out; empty where none were.
    """
    arms: set[tuple[str, str, str]] = set()
    order: list[tuple[int, Found, int]] = []
    for found in collection.runs:
        count = sum(1 for file in found.run.folder.glob("trajectories/*.jsonl") for _ in file.open("rb"))
        arm = (found.run.stage, found.stage, found.arm)
        rank = 0 if found.run.stage == "eval" else 1 + (arm in arms)
        arms.add(arm)
        order.append((rank, found, count))
    chosen, left = [], 0
    for _, found, count in sorted(order, key=lambda entry: entry[0]):
        if count <= most:
            chosen.append(found)
            most -= count
        else:
            left += count
    note = f"{left:,} episodes are not in this page; --episodes raises the limit." if left else ""
    return chosen, note
