"""The summary of a report: which arms beat the baseline, by how much, and what difference was detectable."""

from __future__ import annotations

from dataclasses import dataclass, field

from tau2_exp.report.contrasts import Family, span
from tau2_exp.report.findings import Findings
from tau2_exp.report.terminal import difference_text, measured_text, verdict
from tau2_exp.statistics import Comparison

SHOWN = 10  # lines of an answer
MANY_BASES = 3  # as many or more are named by what they have in common


@dataclass(frozen=True)
class Answer:
    """One paragraph of the summary, on one trial and kind of comparison."""

    title: str
    lines: list[str]
    arms: list[str] = field(default_factory=list)  # the best first
    power: str = ""  # tasks, seeds and the minimum detectable difference


def answers(findings: Findings) -> list[Answer]:
    """One answer for each trial and kind of comparison; only of held-out tasks where there are some.

    Arms are compared with the baseline, then pairwise. Without a baseline there are the pairs alone; without arms, each
    stage is compared with the one before it.
    """
    told = [family for family in findings.families if family.asked or family.everyone] or list(findings.families)
    unseen = [family for family in told if family.trial.split != "train"]
    found = [_answer(findings, family) for family in unseen or told if family.comparisons or family.problem]
    return list({(a.title, *a.lines): a for a in found}.values())  # two families may lack the same


def answers_text(findings: Findings) -> str:
    """The summary for a terminal; empty where nothing is compared."""
    told = [
        "\n".join([f"{a.title}: {' '.join(a.lines)}", *(f"  {arm}" for arm in a.arms), *([a.power] if a.power else [])])
        for a in answers(findings)
    ]
    return "\n\n".join(["Summary", *told]) if told else ""


def _answer(findings: Findings, family: Family) -> Answer:
    if family.problem:
        return Answer(_title(family), [f"No comparison yet: {family.problem}."])
    if family.asked:
        return _against(findings, family)
    return _ranked(findings, family) if family.everyone else _steps(family)


def _against(findings: Findings, family: Family) -> Answer:
    order = sorted(family.comparisons.items(), key=lambda item: (-_progress(item[1]), -item[1].difference.value))
    kinds = [_progress(comparison) for _, comparison in order]
    counts = [
        (kinds.count(kind), word) for kind, word in ((1, "better"), (-1, "worse"), (0, "not significantly different"))
    ]
    bases = _with_scores(findings, family, list(dict.fromkeys(base for (_, base), _ in order)))
    said = ", ".join(f"{count or 'none'} {word}" for count, word in counts)
    told = [f"{family.short(pair)}: {_told(c)}" for pair, c in order]
    lines = [f"Against {'; '.join(bases) if len(bases) < MANY_BASES else family.against}: {said}."]
    return Answer(_title(family), lines, _first(told), _power(family))


def _steps(family: Family) -> Answer:
    told = [f"{family.short(pair)}: {_told(c)}" for pair, c in family.comparisons.items()]
    return Answer(_title(family), [f"Differences in {family.measure}:"], told, _power(family))


def _first(arms: list[str]) -> list[str]:
    """The first SHOWN lines; the tables have them all."""
    return arms if len(arms) <= SHOWN else [*arms[: SHOWN - 1], f"and {len(arms) - SHOWN + 1} more"]


def _progress(comparison: Comparison) -> int:
    return 0 if not comparison.differs else 1 if comparison.difference.value > 0 else -1


def _told(c: Comparison) -> str:
    return f"{difference_text(c)}, {verdict(c)}"


def _ranked(findings: Findings, family: Family) -> Answer:
    best = [arm for arm, (low, _) in family.ranks.items() if low == 1]
    lesser = len(family.ranks) - len(best)
    alone = " (1 seed)" if min(c.difference.seeds for c in family.comparisons.values()) == 1 else ""
    if len(best) == 1:
        line = f"All pairs: one arm is significantly better than every other{alone}:"
    elif lesser:
        others = "the other is" if lesser == 1 else f"the other {lesser} are"
        line = (
            f"All pairs: these arms may be best{alone} and do not differ significantly; {others} significantly worse "
            "than at least one of them:"
        )
    else:
        line = "All pairs: no arm is significantly better than another:"
    return Answer(_title(family), [line], _first(_with_scores(findings, family, best)), _power(family))


def _title(family: Family) -> str:
    return f"{family.trial.name}, {family.title.partition(':')[0]}"


def _power(family: Family) -> str:
    comparisons = family.comparisons.values()
    tasks, pairs = next(iter(comparisons)).difference.tasks, len(comparisons)
    seeds = {c.difference.seeds for c in comparisons}
    seen = list(dict.fromkeys(f"{find(c.detectable for c in comparisons):.2f}" for find in (min, max)))
    several = f", {pairs} comparisons" if pairs > 1 else ""
    said = (
        f"{tasks} tasks, {span(seeds)} seed{'s' * (max(seeds) > 1)} per arm{several}. Minimum detectable difference at "
        f"80 % power: {'–'.join(seen)}{', depending on the pair' * (len(seen) > 1)}."
    )
    alone = " With one seed, training again may change the order; add seeds before you rely on it."
    return said + alone * (1 in seeds)


def _with_scores(findings: Findings, family: Family, arms: list[str]) -> list[str]:
    found = {s.subject.label: (s.subject, s.measures.get(family.measure)) for s in findings.of(family.trial)}
    return [f"{found[arm][0].arm}: {family.measure} {measured_text(found[arm][1])}" for arm in arms]
