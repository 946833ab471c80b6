"""What a reader wants to know first, in a few sentences: which arm to take, and how sure that is."""

from __future__ import annotations

from statistics import median

from tau2_exp.report.contrasts import Family
from tau2_exp.report.findings import Findings
from tau2_exp.report.terminal import measured_text
from tau2_exp.report.trials import Measured
from tau2_exp.statistics import Estimate


def answers(findings: Findings) -> list[tuple[str, list[str]]]:
    """For each family in which arms were ranked, its name and what it says."""
    return [
        (f"{family.trial.name}, {family.title.partition(':')[0]}", _sentences(findings, family))
        for family in findings.families
        if family.ranks or (family.problem and "stages" not in family.title)
    ]


def _sentences(findings: Findings, family: Family) -> list[str]:
    if family.problem:
        return [f"No comparison yet: {family.problem}."]
    best = [arm for arm, (low, _) in family.ranks.items() if low == 1]
    lesser = [arm for arm in family.ranks if arm not in best]
    lines = []
    if len(best) == 1:
        lines.append(f"Best: {_with_scores(findings, family, best)}; it is better than every other arm.")
    else:
        lines.append(f"May be best, and are not told apart: {_with_scores(findings, family, best)}.")
    if lesser:
        lines.append(f"Surely behind at least one arm: {_with_scores(findings, family, lesser)}.")
    first = next(iter(family.comparisons.values()))
    detectable = median(c.detectable for c in family.comparisons.values())
    seeds = min(c.difference.seeds for c in family.comparisons.values())
    lines.append(
        f"{first.difference.tasks} tasks, {seeds} seed{'s' * (seeds > 1)} an arm: a difference of {detectable:.2f} "
        "would have been seen in four of five such studies, a smaller one in fewer."
    )
    if seeds == 1:
        lines.append("One seed an arm: training again may change the order. Add seeds before you rely on it.")
    return lines


def _with_scores(findings: Findings, family: Family, arms: list[str]) -> str:
    found = {s.subject.label: s.measures.get(family.measure) for s in findings.of(family.trial)}
    arms = sorted(arms, key=lambda arm: -_value(found[arm]))
    return ", ".join(f"{arm} ({measured_text(found[arm])})" for arm in arms)


def _value(measured: Measured | None) -> float:
    return measured.value if isinstance(measured, Estimate) else 0.0
