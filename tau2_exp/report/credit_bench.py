"""What the bench of credit found: a table, a CSV file and one figure."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from tau2_exp.config import ConfigError, UserKind
from tau2_exp.evaluation.credit_bench import Bench, Judgement
from tau2_exp.report.terminal import text_table
from tau2_exp.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

FILES = ("table.txt", "credit.csv", "figure.html")
_HEADINGS = ("", "correlation", "with the truth, 95 %", "more than outcome, 95 %", "sign right", "noise", "tokens")


def bench_text(bench: Bench, runs: Sequence[Run]) -> str:
    """The table, what it was measured on, and what can be concluded."""
    rows = [
        (
            one.name,
            _number(one.correlation),
            _with_interval(one.corrected, one.interval),
            _with_interval(one.gain, one.gain_interval, sign=True),
            _number(one.sign),
            _noise(one.noise),
            f"{one.tokens:,}",
        )
        for one in bench.judgements
    ]
    stages = " and ".join(dict.fromkeys(run.stage for run in runs))
    title = f"Credit of {stages} ({', '.join(run.folder.name for run in runs)}) beside what turns were worth"
    measured = (
        f"{bench.turns} turns of {bench.groups} groups; the truth's standard deviation is {bench.spread:.3f} and its "
        f"reliability {bench.reliability:.2f}; {bench.signed} turns have a known sign; playing on took "
        f"{bench.truth_tokens:,} sampled tokens."
    )
    said = [text_table(title, _HEADINGS, rows), measured]
    if any(run.config.user.kind is not UserKind.scripted for run in runs):
        said.append("The user is sampled too: what a turn was worth holds its answer to that turn.")
    return "\n".join([*said, *(bench.doubts or [_conclusion(bench)])])


def write_bench(bench: Bench, text: str, folder: Path) -> list[Path]:
    """Write FILES into the bench's folder; without plotly there is no figure."""
    paths = [folder / name for name in FILES]
    paths[0].write_text(text + "\n", encoding="utf-8")
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(_row(bench.judgements[0])))
        writer.writeheader()
        writer.writerows(map(_row, bench.judgements))
    try:
        bench_figure(bench).write_html(paths[2])
    except ModuleNotFoundError:
        return paths[:2]
    return paths


def write_svg(bench: Bench, path: Path) -> Path:
    """Draw the figure as an SVG file. Raises ConfigError where plotly or Chromium is missing."""
    from tau2_exp.report.drawings import draw

    try:
        path.write_text(draw([bench_figure(bench)])[0], encoding="utf-8")
    except ModuleNotFoundError:
        raise ConfigError("--svg: drawing takes plotly, which is not installed: pip install plotly") from None
    return path


def bench_figure(bench: Bench) -> go.Figure:
    """Each estimator's correlation with the truth, its noise taken off, with its interval."""
    import plotly.graph_objects as go

    shown = [one for one in bench.judgements if one.corrected is not None]
    low = [value - interval[0] if interval else 0.0 for value, interval in _bars(shown)]
    high = [interval[1] - value if interval else 0.0 for value, interval in _bars(shown)]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.corrected for one in shown],
        y=[one.name for one in shown],
        mode="markers",
        marker={"size": 9, "color": "#2F8FD0"},
        error_x={"type": "data", "symmetric": False, "array": high, "arrayminus": low},
    )
    figure.add_vline(x=0, line={"dash": "dot", "color": "#888888"})
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title="correlation with what turns were worth, 95 % interval")
    title = {"text": "<br>".join(wrap(bench.doubts[0], 90)), "font": {"size": 13}} if bench.doubts else None
    top = 60 if bench.doubts else 20
    figure.update_layout(height=140 + 30 * len(shown), margin={"t": top, "b": 60}, showlegend=False, title=title)
    return figure


def _bars(shown: Sequence[Judgement]) -> list[tuple[float, tuple[float, float] | None]]:
    return [(one.corrected or 0.0, one.interval) for one in shown]


def _conclusion(bench: Bench) -> str:
    """Which estimators know more of the truth than the outcome does, and which less."""
    apart = [(one, one.gain_interval) for one in bench.judgements if one.gain_interval]
    more = [one.name for one, (low, _) in apart if low > 0]
    less = [one.name for one, (_, high) in apart if high < 0]
    said = [
        f"{word} outcome: {', '.join(names)}."
        for word, names in (("Closer to the truth than", more), ("Farther from the truth than", less))
        if names
    ]
    return " ".join(said) or "No estimator is significantly closer to the truth than outcome, or farther from it."


def _row(one: Judgement) -> dict[str, object]:
    row = dataclasses.asdict(one)
    for name in ("interval", "gain_interval"):
        low, high = row.pop(name) or (None, None)
        row |= {f"{name}_low": low, f"{name}_high": high}
    return row


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _noise(value: float | None) -> str:
    return ">99" if value is not None and value > 99 else _number(value, digits=1)


def _with_interval(value: float | None, interval: tuple[float, float] | None, sign: bool = False) -> str:
    if value is None:
        return ""
    form = "+.2f" if sign else ".2f"
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]" if interval else f"{value:{form}}"
