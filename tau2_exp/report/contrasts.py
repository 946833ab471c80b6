"""Paired comparisons of arms within a trial: families of comparisons, each corrected for multiplicity as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from tau2_exp.report.arms import arm_label
from tau2_exp.report.trials import GREEDY, Measured, Missing, Subject, Trial
from tau2_exp.statistics import Comparison, Estimate, compare_all, ranks

Pair = tuple[str, str]
MANY = 20  # comparisons: a family of more is shown by ranks, and listed in tables only


@dataclass(frozen=True)
class Family:
    """Comparisons of one trial that are read together. Without numbers, `problem` is what is missing."""

    trial: Trial
    title: str
    comparisons: dict[Pair, Comparison] = field(default_factory=dict)
    against: str = ""  # the arm that all others are compared with, or what is common to several of them
    asked: bool = False  # `against` is the outcome alone, or was asked for
    everyone: bool = False  # all pairs of its arms are there, so that they can be ranked
    ranks: dict[str, tuple[int, int]] = field(default_factory=dict)
    problem: str = ""

    @property
    def measure(self) -> str:
        """The measure that is compared: pass@1, or greedy pass@1 in a trial without samples."""
        return "pass@1" if self.trial.samples else GREEDY

    @property
    def note(self) -> str:
        """The measure, the numbers of tasks and seeds, and how the intervals are corrected, in words."""
        first = next(iter(self.comparisons.values()))
        seeds = {c.difference.seeds for c in self.comparisons.values()}
        said = f"{self.measure}, {first.difference.tasks} tasks"
        said += "; one seed: other seeds may differ by more" if seeds == {1} else f"; {span(seeds)} seeds"
        said += " (only those that both arms have)" if self._seeds_left_out else ""
        if pooled := {c.pooled for c in self.comparisons.values() if c.pooled}:
            said += f"; seed variance pooled over {span(pooled)} arms"
        several = f"; intervals and p corrected for {first.compared} comparisons (Bonferroni)"
        return said + (several if first.compared > 1 else "")

    @property
    def _seeds_left_out(self) -> bool:
        known = {s.label: set(s.seeds) for s in self.trial.subjects}
        return any(c.same_seeds and known[a] != known[b] for (a, b), c in self.comparisons.items())

    def short(self, pair: Pair) -> str:
        """`a − b`, without the stage where both have the same; only a where all are compared with b."""
        a, b = ({s.label: s for s in self.trial.subjects}[label] for label in pair)
        if self.against:
            return a.arm
        return f"{a.arm} − {b.arm}" if a.stage == b.stage and a.arm and b.arm else f"{a.label} − {b.label}"


def families(trial: Trial, against: str | None = None) -> list[Family]:
    """Arms of a stage against a baseline, all pairs of them, and stages against what their models were made from.

    The baselines of a stage are the arms that `against` names, else those of the outcome alone, else its first arm.
    Each arm is compared with the baseline that it has the most settings in common with.
    """
    found = []
    for stage in dict.fromkeys(subject.stage for subject in trial.subjects):
        arms = [subject for subject in trial.subjects if subject.stage == stage]
        if len(arms) > 1:
            bases, asked = _baselines(arms, against)
            pairs = [(arm.label, _most_like(arm, bases).label) for arm in arms if arm not in bases]
            name, everyone = _common_name(bases), len(arms) == 2
            family = Family(trial, f"{stage}: arms against {name}", against=name, asked=asked, everyone=everyone)
            found += [_compared(family, pairs)] * bool(pairs)
        if len(arms) > 2:
            pairs = [(b.label, a.label) for a, b in combinations(arms, 2)]
            found.append(_compared(Family(trial, f"{stage}: all pairs of arms", everyone=True), pairs))
    by_place = {(subject.stage, subject.arm): subject for subject in trial.subjects}
    steps = [(s.label, by_place[s.parent].label) for s in trial.subjects if s.parent in by_place]
    return [*found, _compared(Family(trial, "each stage against the one before"), steps)] if steps else found


def _compared(family: Family, pairs: Sequence[Pair]) -> Family:
    trial = family.trial
    subjects = {s.label: s for s in trial.subjects if any(s.label in pair for pair in pairs)}
    lacking = [_lacking(subject, family.measure) for subject in subjects.values()]
    if any(lacking):
        return replace(family, problem="; ".join(filter(None, lacking)))
    if len(trial.tasks) < 2:
        return replace(family, problem="comparing arms takes at least two tasks")
    arms = {label: s.outcomes if trial.samples else s.greedy for label, s in subjects.items()}
    comparisons = compare_all(arms, pairs)
    order = sorted(subjects, key=lambda label: -_value(subjects[label].measured(family.measure)))
    return replace(family, comparisons=comparisons, ranks=ranks(order, comparisons) if family.everyone else {})


def _value(measured: Measured | None) -> float:
    return measured.value if isinstance(measured, Estimate) else 0.0


def _lacking(subject: Subject, measure: str) -> str:
    found = subject.measured(measure)
    if found is None:
        return f"{subject.label} has no samples for {measure}"
    return f"{subject.label}: samples missing: {found.samples}" if isinstance(found, Missing) else ""


def names(against: str, arm: Subject) -> bool:
    """Whether all words of `against` are in the arm's label: `alpha=0.1` is in `grpo shaped alpha=0.1`."""
    return set(against.split()) <= set(arm.label.split())


def _baselines(arms: Sequence[Subject], against: str | None) -> tuple[list[Subject], bool]:
    """The arms, and whether they are more than the first of several."""
    named = [arm for arm in arms if against and names(against, arm)]
    plain = [arm for arm in arms if arm.values.get("kind") == "outcome" or arm.values.get("alpha") == 0]
    return named or plain or [arms[0]], bool(named or plain)


def _most_like(arm: Subject, bases: Sequence[Subject]) -> Subject:
    return max(bases, key=lambda base: sum(base.values.get(name) == value for name, value in arm.values.items()))


def _common_name(bases: Sequence[Subject]) -> str:
    """The settings common to all baselines; where they differ, each arm is compared with the one most like it."""
    first, *others = bases
    shared = {name: v for name, v in first.values.items() if all(base.values.get(name) == v for base in others)}
    differ = list(dict.fromkeys(name for base in bases for name in base.values if name not in shared))
    return arm_label(shared) + f", matched by {' and '.join(differ)}" * bool(differ)


def span(numbers: set[int]) -> str:
    """`3`, or `1 to 3`."""
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
