"""How well each estimator of credit knows what a turn was worth: its advantages beside the truth, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, variance

import numpy as np

from tau2_exp.config import Anchor, Baseline, RewardConfig, RewardKind
from tau2_exp.learning.advantage import Turns, group_credit, step_scale
from tau2_exp.learning.reward import score
from tau2_exp.statistics.correlation import Sums, bootstrap_weights, percentiles
from tau2_exp.types import Trajectory

RELIABLE = 0.5  # a truth that is less reliable allows no conclusion
_SURE = 2.0  # standard errors from 0 at which the truth's sign is known


@dataclass(frozen=True, slots=True)
class MeasuredTurn:
    """Turn `turn` of the group's episode `episode`, and the outcomes of playing on many times.

    `before` are those from the state before the turn, afresh; `after` those from the state behind it, or the episode's
    own outcome alone where it ended with the turn.
    """

    episode: int
    turn: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def advantage(self) -> float:
        """The estimate of Q(s, a) − V(s) under the policy that played."""
        return fmean(self.after) - fmean(self.before)

    @property
    def error(self) -> float:
        """The standard error of `advantage`; an episode's own end is known without one."""
        return math.sqrt(sum(variance(part) / len(part) for part in (self.before, self.after) if len(part) > 1))


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """One task's episodes, their branches for reward=branch, and the turns of which the truth was estimated.

    The tokens are those that the policy sampled: for the episodes, for their branches, for the truth.
    """

    episodes: tuple[Trajectory, ...]
    branches: tuple[Trajectory, ...]
    turns: tuple[MeasuredTurn, ...]
    episode_tokens: int = 0
    branch_tokens: int = 0
    truth_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Estimator:
    """A reward, as a way to estimate what each turn was worth."""

    name: str
    config: RewardConfig

    @property
    def branches(self) -> bool:
        """Whether it reads the branches."""
        return self.config.kind is RewardKind.branch


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an estimator's advantages go with the truth; intervals are 95 %, over groups.

    `correlation` is as measured, `corrected` without the noise of the truth; `gain` is the latter less that of
    `outcome`. `sign` is the share of turns of known sign whose advantage has it; an advantage of 0 counts half. `noise`
    is the variance of the advantages, scaled so that they grow with the truth one to one, over the truth's: 1 is
    perfect. `tokens` are what the policy sampled for it.
    """

    name: str
    correlation: float | None
    corrected: float | None
    interval: tuple[float, float] | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    sign: float | None
    noise: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Bench:
    """What the bench found. `reliability` is the share of the truth's variance that is no noise of its estimate."""

    judgements: list[Judgement]
    turns: int
    groups: int
    signed: int  # turns whose true sign is known
    reliability: float
    spread: float  # the standard deviation of the true advantages, their noise taken off
    truth_tokens: int = 0
    doubts: list[str] = field(default_factory=list)


def estimators(reward: RewardConfig, alphas: Sequence[float] = (0.5, 1.0, 2.0)) -> list[Estimator]:
    """All kinds of credit, by a run's weights of the parts; each is otherwise what its name and the defaults say."""
    plain = RewardConfig(weights=reward.weights, domain_weights=reward.domain_weights, multipliers={}, alpha=0.0)
    shaped = replace(plain, kind=RewardKind.shaped, alpha=0.25)
    found = [
        Estimator("outcome", replace(plain, kind=RewardKind.outcome)),
        Estimator("shaped alpha=0.25", shaped),
        Estimator("shaped alpha=0.25 without deviation", replace(shaped, outcome_over_deviation=False)),
    ]
    for baseline in Baseline:
        for alpha in alphas:
            config = replace(plain, kind=RewardKind.turn_level, alpha=alpha, baseline=baseline)
            found.append(Estimator(f"turn_level alpha={alpha:g} baseline={baseline.value}", config))
    for anchor in Anchor:
        config = replace(plain, kind=RewardKind.anchor, alpha=1.0, turn_discount=0.95, anchor=anchor)
        found.append(Estimator(f"anchor {anchor.value}", config))
    return [*found, Estimator("branch", replace(plain, kind=RewardKind.branch))]


def judge(runs: Sequence[Sequence[MeasuredGroup]], kinds: Sequence[Estimator]) -> Bench:
    """Hold every estimator against the truth, over the groups of all runs; those of one run are one step's.

    Raises ValueError where no turn was measured.
    """
    runs = [[group for group in groups if group.turns] for groups in runs]
    groups = [group for of_run in runs for group in of_run]
    if not groups:
        raise ValueError("no turn was measured: every episode ended in a fault, or before its first turn")
    truths = [[turn.advantage for turn in group.turns] for group in groups]
    errors = [[turn.error for turn in group.turns] for group in groups]
    given = {kind.name: [turns for of_run in runs for turns in _given(kind, of_run)] for kind in kinds}
    sums = {name: Sums.of(list(zip(numbers, truths, errors, strict=True))) for name, numbers in given.items()}
    weights, whole = bootstrap_weights(len(groups)), np.ones((1, len(groups)))
    drawn = {name: one.resampled(weights).corrected for name, one in sums.items()}
    totals = {name: one.resampled(whole) for name, one in sums.items()}
    first = kinds[0]
    judgements = []
    for kind in kinds:
        total = totals[kind.name]
        corrected = float(total.corrected[0])
        apart = drawn[kind.name] - drawn[first.name]
        judgements.append(
            Judgement(
                kind.name,
                _known(float(total.correlation[0])),
                _known(corrected),
                percentiles(drawn[kind.name]),
                _known(corrected - float(totals[first.name].corrected[0])) if kind is not first else None,
                percentiles(apart) if kind is not first else None,
                _sign(given[kind.name], truths, errors),
                _known(1.0 / corrected**2) if corrected else None,
                sum(group.episode_tokens + kind.branches * group.branch_tokens for group in groups),
            )
        )
    return _bench(judgements, groups, float(totals[first.name].reliability[0]), truths, errors)


def _bench(
    judgements: list[Judgement],
    groups: Sequence[MeasuredGroup],
    reliability: float,
    truths: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
) -> Bench:
    every = [(y, e) for ys, es in zip(truths, errors, strict=True) for y, e in zip(ys, es, strict=True)]
    doubts = []
    if reliability < RELIABLE:
        doubts.append(
            f"no conclusion: the truth's reliability is {reliability:.2f}, below {RELIABLE}; raise --continuations or "
            "--turns, or take tasks that the model solves sometimes"
        )
    if len(groups) < 5:
        doubts.append(f"the intervals are over {len(groups)} groups: too few; raise --groups")
    varied = variance([y for y, _ in every]) if len(every) > 1 else 0.0
    return Bench(
        judgements,
        turns=len(every),
        groups=len(groups),
        signed=sum(abs(y) > _SURE * e for y, e in every),
        reliability=reliability,
        spread=math.sqrt(varied * reliability),
        truth_tokens=sum(group.truth_tokens for group in groups),
        doubts=doubts,
    )


def _given(kind: Estimator, groups: Sequence[MeasuredGroup]) -> list[list[float]]:
    """What the estimator holds each measured turn to be worth, before its weight; the groups are those of one step."""
    credits = []
    for group in groups:
        played = [*group.episodes, *group.branches] if kind.branches else list(group.episodes)
        credits.append(group_credit([(t, score(t, kind.config)) for t in played if t.scored], kind.config))
    scale = step_scale(credit for credit in credits if credit.signal)
    return [_of_turns(group, credit.advantages(scale)) for group, credit in zip(groups, credits, strict=True)]


def _of_turns(group: MeasuredGroup, advantages: Sequence[Turns]) -> list[float]:
    scored = [i for i, t in enumerate(group.episodes) if t.scored]
    place = {episode: number for number, episode in enumerate(scored)}
    return [advantages[place[turn.episode]][turn.turn] for turn in group.turns]


def _sign(
    given: Sequence[Sequence[float]], truths: Sequence[Sequence[float]], errors: Sequence[Sequence[float]]
) -> float | None:
    right = [
        0.5 if x == 0 else float(x * y > 0)
        for xs, ys, es in zip(given, truths, errors, strict=True)
        for x, y, e in zip(xs, ys, es, strict=True)
        if abs(y) > _SURE * e
    ]
    return fmean(right) if right else None


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None
