"""What a reader wants to know first, in a few sentences: which arm to take, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from tau2_exp.report.contrasts import Family
from tau2_exp.report.findings import Findings
from tau2_exp.report.terminal import measured_text
from tau2_exp.report.trials import Measured
from tau2_exp.statistics import Estimate


@dataclass(frozen=True)
class Answer:
    title: str
    lines: list[str]
    best: list[str] = field(default_factory=list)  # with their scores, the highest first
    sure: str = ""  # what the study could have seen


def answers(findings: Findings) -> list[Answer]:
    """For each family in which arms were ranked, what it says; on unseen tasks, where there are some."""
    ranked = [family for family in findings.families if family.everyone]
    unseen = [family for family in ranked if family.trial.split != "train"]
    return [_answer(findings, family) for family in unseen or ranked if family.ranks or family.problem]


def answers_text(findings: Findings) -> str:
    """The same for a terminal; empty where nothing is compared."""
    told = [
        "\n".join([f"{a.title}: {' '.join(a.lines)}", *(f"  {arm}" for arm in a.best), *([a.sure] if a.sure else [])])
        for a in answers(findings)
    ]
    return "\n\n".join(["In short", *told]) if told else ""


def _answer(findings: Findings, family: Family) -> Answer:
    title = f"{family.trial.name}, {family.title.partition(':')[0]}"
    if family.problem:
        return Answer(title, [f"No comparison yet: {family.problem}."])
    best = [arm for arm, (low, _) in family.ranks.items() if low == 1]
    lesser = len(family.ranks) - len(best)
    alone = ", on this one seed" if min(c.difference.seeds for c in family.comparisons.values()) == 1 else ""
    if len(best) == 1:
        lines = [f"One arm is better than every other{alone}:"]
    elif lesser:
        lines = [f"These may be best{alone}, and are not told apart; the other {lesser} are surely behind one:"]
    else:
        lines = ["No arm is surely better than another:"]
    return Answer(title, lines, _with_scores(findings, family, best), _sure(family))


def _sure(family: Family) -> str:
    comparisons = family.comparisons.values()
    tasks = next(iter(comparisons)).difference.tasks
    detectable = median(c.detectable for c in comparisons)
    seeds = min(c.difference.seeds for c in comparisons)
    said = (
        f"{tasks} tasks, {seeds} seed{'s' * (seeds > 1)} an arm: of two arms, a difference of {detectable:.2f} "
        "would have been seen in four of five such studies, a smaller one in fewer."
    )
    alone = " One seed an arm: training again may change the order; add seeds before you rely on it."
    return said + alone * (seeds == 1)


def _with_scores(findings: Findings, family: Family, arms: list[str]) -> list[str]:
    found = {s.subject.label: (s.subject, s.measures.get(family.measure)) for s in findings.of(family.trial)}
    chosen = sorted((found[arm] for arm in arms), key=lambda entry: -_value(entry[1]))
    return [f"{subject.arm}: {family.measure} {measured_text(measured)}" for subject, measured in chosen]


def _value(measured: Measured | None) -> float:
    return measured.value if isinstance(measured, Estimate) else 0.0
