"""The report as text: a table for each trial, comparisons, and runs that are unfinished or were skipped."""

from __future__ import annotations

import io
from collections.abc import Sequence

from tau2_exp.report.contrasts import MANY, Family
from tau2_exp.report.findings import Findings, Score
from tau2_exp.report.trials import Measured, Missing, Trial
from tau2_exp.statistics import Comparison

_WIDTH = 140


def report_text(findings: Findings) -> str:
    """The tables of all trials and families, then the runs that are unfinished or skipped."""
    parts = [_scores(trial, findings.of(trial)) for trial in findings.collection.trials]
    parts += [_family(family) for family in findings.families]
    parts += findings.warnings
    if not findings.collection.trials:
        parts.append("no finished evaluation in these folders")
    if findings.collection.problems:
        parts.append("\n".join(findings.collection.problems))
    return "\n\n".join(parts)


def measured_text(measured: Measured | None) -> str:
    """`0.62 [0.55, 0.69]`, or how many samples are missing; empty for None."""
    if measured is None:
        return ""
    if isinstance(measured, Missing):
        where = f" (seed {', '.join(measured.seeds)})" if measured.seeds else ""
        return f"{measured.samples} samples missing{where}"
    return f"{measured.value:.2f} [{measured.low:.2f}, {measured.high:.2f}]"


def nothing_text(trial: Trial) -> str:
    """The score of doing nothing; `unknown` where a task of another revision cannot be judged here."""
    return measured_text(trial.nothing) or "unknown"


def difference_text(comparison: Comparison) -> str:
    """The difference and its interval, corrected as the verdict is: the two never contradict each other."""
    low, high = map(_bound, (comparison.low_corrected, comparison.high_corrected))
    return f"{comparison.difference.value:+.3f} [{low}, {high}]"


def _bound(value: float) -> str:
    """Three digits, or what it takes to show that the bound is not 0."""
    return f"{value:+.3f}" if abs(value) >= 0.0005 or value == 0.0 else f"{value:+.0e}"


def p_text(p: float) -> str:
    """`0.012`, or `<0.001`; with as many digits as show on which side of 0.05 it is."""
    digits = next((d for d in range(3, 17) if (float(f"{p:.{d}f}") < 0.05) == (p < 0.05)), 17)
    return "<0.001" if p < 0.001 else f"{p:.{digits}f}"


def rank_text(rank: tuple[int, int]) -> str:
    """`1`, or the range `2–4` of arms that do not differ significantly."""
    low, high = rank
    return str(low) if low == high else f"{low}–{high}"


def verdict(comparison: Comparison) -> str:
    """`better`, `worse (1 seed)`, or `no significant difference (detectable: ≥ 0.60)`."""
    if comparison.differs:
        word = "better" if comparison.difference.value > 0 else "worse"
        return word if comparison.difference.seeds > 1 else f"{word} (1 seed)"
    seen = f"≥ {comparison.detectable:.2f}" if comparison.detectable <= 1 else "none"
    return f"no significant difference (detectable: {seen})"


def _scores(trial: Trial, scores: Sequence[Score]) -> str:
    rows = [("(do nothing)", "", *[nothing_text(trial)] * len(trial.measures))]
    for score in scores:
        cells = (measured_text(score.measures.get(name)) for name in trial.measures)
        rows.append((score.subject.label, str(len(score.subject.seeds)), *cells))
    return text_table(trial.title, ("", "seeds", *trial.measures), rows)


def _family(family: Family) -> str:
    title = f"{family.trial.name}, {family.title}"
    if family.problem:
        return f"{title}: no comparison: {family.problem}"
    order = sorted(family.ranks.items(), key=lambda item: item[1])
    ranked = f"  rank: {'; '.join(f'{arm}: {rank_text(rank)}' for arm, rank in order)}"
    if len(family.comparisons) > MANY:
        return f"{title} ({family.note})\n{ranked}"
    headings = ("", "difference, 95 %", "p, corrected", "tasks ahead (ties ½)", "")
    rows = [
        (
            family.short(pair),
            difference_text(c),
            p_text(c.p_corrected),
            f"{100 * c.superiority.value:.0f} %",
            verdict(c),
        )
        for pair, c in family.comparisons.items()
    ]
    text = text_table(f"{title} ({family.note})", headings, rows)
    return f"{text}\n{ranked}" if family.ranks else text


def text_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under headings, the first column and those without a heading to the left, under a title."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place and heading else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    return "\n".join([title, *(line.rstrip() for line in text.getvalue().splitlines())]).rstrip()
