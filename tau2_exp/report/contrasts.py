"""Who is better than whom in a trial, and how sure that is: families of comparisons, each corrected as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tau2_exp.report.trials import GREEDY, Missing, Subject, Trial
from tau2_exp.statistics import Comparison, compare_all, ranks

Pair = tuple[str, str]


@dataclass(frozen=True)
class Family:
    """Comparisons of one trial that are read together. Without numbers, `problem` says what is missing."""

    trial: Trial
    title: str
    measure: str
    comparisons: dict[Pair, Comparison] = field(default_factory=dict)
    ranks: dict[str, tuple[int, int]] = field(default_factory=dict)  # only where all pairs were compared
    problem: str = ""

    @property
    def note(self) -> str:
        """What the intervals are, in words."""
        first = next(iter(self.comparisons.values()))
        seeds = {c.difference.seeds for c in self.comparisons.values()}
        said = f"{self.measure}, {first.difference.tasks} tasks"
        said += "; one seed: other seeds may differ by more" if seeds == {1} else f"; {_range(seeds)} seeds"
        several = f"; p (Holm) and the wide intervals (Bonferroni) corrected for {first.compared} comparisons"
        return said + (several if first.compared > 1 else "")


def families(trial: Trial, against: str | None = None) -> list[Family]:
    """Arms of a stage against a baseline, all pairs of them, and stages against what their models were made from.

    The baseline of a stage is the arm whose label contains `against`, else that of the outcome alone, else its first.
    """
    found = []
    for stage in dict.fromkeys(subject.stage for subject in trial.subjects):
        arms = [subject for subject in trial.subjects if subject.stage == stage]
        if len(arms) > 1:
            base = _baseline(arms, against)
            pairs = [(arm.label, base.label) for arm in arms if arm is not base]
            found.append(
                _family(trial, f"{stage}: arms against {base.arm or base.label}", pairs, everyone=len(arms) == 2)
            )
        if len(arms) > 2:
            pairs = [(b.label, a.label) for a, b in combinations(arms, 2)]
            found.append(_family(trial, f"{stage}: all pairs of arms", pairs, everyone=True))
    by_place = {(subject.stage, subject.arm): subject for subject in trial.subjects}
    steps = [(s.label, by_place[s.parent].label) for s in trial.subjects if s.parent in by_place]
    if steps:
        found.append(_family(trial, "stages against the one before", steps))
    return found


def _family(trial: Trial, title: str, pairs: Sequence[Pair], everyone: bool = False) -> Family:
    measure = "pass@1" if trial.samples else GREEDY
    subjects = {s.label: s for s in trial.subjects if any(s.label in pair for pair in pairs)}
    problem = "; ".join(_lacking(subject, measure) for subject in subjects.values() if _lacking(subject, measure))
    if problem:
        return Family(trial, title, measure, problem=problem)
    arms = {label: s.outcomes if trial.samples else s.greedy for label, s in subjects.items()}
    if len(trial.tasks) < 2:
        return Family(trial, title, measure, problem="one task alone cannot tell arms apart")
    comparisons = compare_all(arms, pairs)
    return Family(trial, title, measure, comparisons, ranks(list(arms), comparisons) if everyone else {})


def _lacking(subject: Subject, measure: str) -> str:
    found = subject.measured(measure)
    if found is None:
        return f"{subject.label} was not played for {measure}"
    return f"{subject.label} lacks {found.samples} samples" if isinstance(found, Missing) else ""


def _baseline(arms: Sequence[Subject], against: str | None) -> Subject:
    if against and (named := [arm for arm in arms if against in arm.label]):
        return named[0]
    plain = [arm for arm in arms if arm.values.get("kind") == "outcome" or arm.values.get("alpha") == 0]
    return (plain or list(arms))[0]


def _range(numbers: set[int]) -> str:
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
