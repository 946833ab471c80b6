"""The page's sections, each a list of pieces of HTML; empty where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tau2_exp.report.answers import answers
from tau2_exp.report.contrasts import MANY, Family
from tau2_exp.report.costs import Cost
from tau2_exp.report.failures import Failure, Failures
from tau2_exp.report.figures import (
    curve_figure,
    forest_figure,
    line_styles,
    modes_figure,
    scores_figure,
    stops_figure,
    surface_figure,
)
from tau2_exp.report.findings import Findings, Score
from tau2_exp.report.html import Cell, chart, folded, grid, heading, keys, paragraph, table
from tau2_exp.report.reference import CITATION, PUBLISHED
from tau2_exp.report.surfaces import scale, surfaces
from tau2_exp.report.terminal import difference_text, measured_text, nothing_text, p_text, rank_text, verdict
from tau2_exp.report.trials import Trial

Failed = Sequence[tuple[Score, Failures]]
Row = list[str | Cell]


def answers_section(findings: Findings) -> list[str]:
    """The summary, and the runs that are unfinished or skipped."""
    parts = [
        f'<div class="answer">{heading(3, answer.title)}{"".join(map(paragraph, answer.lines))}{_list(answer.arms)}'
        f"{paragraph(answer.power)}</div>"
        for answer in answers(findings)
    ]
    if findings.warnings:
        parts.append(heading(3, "Arms that are one treatment") + _list(findings.warnings))
    if findings.collection.problems:
        parts.append(heading(3, "Runs without a score") + _list(findings.collection.problems))
    if not findings.collection.trials:
        parts.append(paragraph("There is no finished evaluation in these folders yet."))
    return parts


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def scores_section(findings: Findings) -> list[str]:
    """A chart and a table of measures for each trial."""
    parts = []
    for trial in findings.collection.trials:
        scores = findings.of(trial)
        parts += [heading(3, trial.name), paragraph(trial.title.partition(": ")[2], "soft")]
        parts += [chart(scores_figure(trial, scores)), folded("as a table", _score_table(trial, scores))]
    return parts


def _score_table(trial: Trial, scores: Sequence[Score]) -> str:
    nothing = nothing_text(trial)
    rows = [["(do nothing)", "", *[nothing] * len(trial.measures)]]
    for score in scores:
        cells = [measured_text(score.measures.get(name)) for name in trial.measures]
        rows.append([score.subject.label, str(len(score.subject.seeds)), *cells])
    return table(["", "seeds", *trial.measures], rows)


def differences_section(findings: Findings) -> list[str]:
    """A chart and a table for each family of comparisons, and ranks where all pairs are compared."""
    if not findings.families:
        return []
    parts = [
        paragraph(
            "Differences are paired by task, and by seed where both arms have it. Thick: the 95 % interval of one "
            "comparison. Thin: the interval corrected for all comparisons of the chart. Grey: not significant."
        )
    ]
    for family in findings.families:
        parts.append(heading(3, f"{family.trial.name}, {family.title}"))
        if family.problem:
            parts.append(paragraph(f"No comparison: {family.problem}."))
            continue
        if len(family.comparisons) <= MANY:
            parts.append(chart(forest_figure(family), family.note))
        if family.ranks:
            order = sorted(family.ranks.items(), key=lambda item: item[1])
            parts.append(table(["", "rank (range: not significant)"], [(arm, rank_text(rank)) for arm, rank in order]))
        parts.append(folded("as a table", _comparison_table(family)))
    return parts


def _comparison_table(family: Family) -> str:
    rows: list[Row] = []
    for pair, c in family.comparisons.items():
        ahead = c.superiority
        kind = ("better" if c.difference.value > 0 else "worse") if c.differs else ""
        rows.append(
            [
                family.short(pair),
                difference_text(c),
                p_text(c.p_corrected),
                f"{ahead.value:.0%} [{ahead.low:.0%}, {ahead.high:.0%}]",
                f"{c.detectable:.3f}",
                str(c.difference.seeds),
                Cell(verdict(c).partition(" (detectable")[0], f"text {kind}"),
            ]
        )
    headings = "difference, 95 %|p, corrected|tasks ahead (ties ½)|detectable|seeds|".split("|")
    return table(["", *headings], rows)


def sweeps_section(findings: Findings) -> list[str]:
    """The surfaces of each trial whose arms vary two settings."""
    parts = []
    for trial in findings.collection.trials:
        found = surfaces(trial)
        if found:
            parts.append(heading(3, trial.name))
            parts.append(grid([chart(surface_figure(s, scale(found)), least=120 + 90 * len(s.columns)) for s in found]))
    return parts


def curves_section(findings: Findings) -> list[str]:
    """The learning curves of each stage, a chart for each metric."""
    parts = []
    for course in findings.courses:
        named = [
            (f"{arm or course.stage}, {_seeds(len(course.arms[arm]))}", *style)
            for arm, style in line_styles(list(course.arms)).items()
        ]
        parts += [heading(3, course.title), keys(named)]
        parts.append(grid([chart(curve_figure(course, panel)) for panel in course.panels]))
    if parts:
        told = (
            "Measured on training episodes. Bands reach from the lowest seed to the highest. Click a name to show only "
            "its line; click more names to add lines."
        )
        parts.insert(0, paragraph(told))
    return parts


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def failures_section(failed: Failed) -> list[str]:
    """Stop reasons and failure modes for each trial, files without episodes, and the definitions."""
    parts = []
    for trial in dict.fromkeys(score.trial.name for score, _ in failed):
        here = [(score, found) for score, found in failed if score.trial.name == trial]
        parts.append(heading(3, trial))
        lost = [(score.subject.label, path) for score, found in here for path in found.missing]
        parts.append(
            _list([f"{label}: {path} is missing or empty; its episodes are not counted" for label, path in lost])
        )
        here = [(score, found) for score, found in here if found.episodes]
        if not here:
            continue
        parts.append(chart(stops_figure(here), "Stop reasons of sampled episodes (light: solved, or not scored)"))
        parts.append(chart(modes_figure(here), "Failure modes (an episode may have several)", 130 + 45 * len(here)))
    if parts:
        told = "".join(f"<dt>{escape(mode.value)}</dt><dd>{escape(mode.definition)}</dd>" for mode in Failure)
        parts.append(folded("definitions", f"<dl>{told}</dl>"))
    return parts


def reference_section(findings: Findings) -> list[str]:
    """Two separate tables: the published results used other tasks, other users and another engine."""
    published: list[Row] = [
        [
            row.row,
            row.measure,
            *map(_percent, (row.overall, row.airline, row.retail, row.telecom)),
            Cell(row.tasks, "text"),
        ]
        for row in PUBLISHED
    ]
    ours = [
        [score.subject.label, trial.domain, name, measured_text(value), str(len(trial.tasks)), trial.plan["user"]]
        for trial in findings.collection.trials
        if trial.split == "test"
        for score in findings.of(trial)
        for name, value in score.measures.items()
        if name.startswith("pass@")
    ]
    if not ours:
        return []
    headings = ["", "measure", "overall", "airline", "retail", "telecom", "overall fits"]
    own = table(["", "domain", "measure", "share", "tasks", "user"], ours)
    return [
        paragraph(
            "The published table mixes two sets of tasks, and its user simulators were language models. Compare only "
            "results with the same tasks, revision and user, and look at the intervals."
        ),
        heading(3, "Published, % of tasks"),
        table(headings, published),
        heading(3, "Here, test split"),
        own if len(ours) <= len(PUBLISHED) else folded(f"{len(ours)} rows", own),
        paragraph(CITATION, "soft"),
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def costs_section(findings: Findings) -> list[str]:
    """A table of the mean costs of each arm's runs."""
    totals: dict[tuple[str, str], list[Cost]] = {}
    for cost in findings.costs:
        totals.setdefault((cost.stage, cost.arm), []).append(cost)
    rows = [
        [
            f"{stage} {arm}".rstrip(),
            str(len(found)),
            str(sum(cost.status == "finished" for cost in found)),
            *(_mean([getattr(cost, name) for cost in found], form) for name, form in _COSTS.items()),
        ]
        for (stage, arm), found in totals.items()
    ]
    headings = ["", "runs", "finished", "minutes", "steps", "episodes", "agent tokens", "user tokens", "dollars"]
    return [
        paragraph(
            "Means over an arm's runs. Minutes: wall-clock time of workers, excluding killed attempts. Blank: unknown."
        ),
        table(headings, rows),
    ]


_COSTS = {
    "seconds": lambda v: f"{v / 60:.1f}",
    "steps": lambda v: f"{v:,.0f}",
    "episodes": lambda v: f"{v:,.0f}",
    "policy_tokens": lambda v: f"{v:,.0f}",
    "user_tokens": lambda v: f"{v:,.0f}",
    "dollars": lambda v: f"{v:.2f}",
}


def _mean(values: Sequence[float | None], form: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return form(sum(known) / len(known)) if known and len(known) == len(values) else ""
