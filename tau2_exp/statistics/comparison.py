"""Two or more arms compared task by task: the difference, its significance, and the difference that can be detected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tau2_exp.statistics.estimators import Floats, Measure, Samples, seeds_by_tasks
from tau2_exp.statistics.intervals import CONFIDENCE, Estimate, at_most
from tau2_exp.statistics.pooling import SeedVariance, pooled_apart, pooled_crossed
from tau2_exp.statistics.student import t_cdf, t_quantile

Arm = Mapping[Any, Samples]  # seed → the samples of its run
POWER = 0.80
_ROUNDING = 1e-12  # a standard error, or a task's difference, below this is rounding only


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm a minus arm b.

    Of one among several comparisons, `detectable` and the fields named `corrected` are corrected for their number.
    """

    difference: Estimate  # `seeds` is the smaller arm's; at 1 the interval says nothing of other seeds
    superiority: Estimate  # the share of tasks on which a's mean is the higher, ties counted half
    p: float  # two-sided, of no difference
    same_seeds: bool  # compared seed by seed, over the seeds that both have
    compared: int = 1  # how many comparisons the four below are corrected for, by Bonferroni
    detectable: float = 0.0  # the smallest true difference seen with 80 % power
    p_corrected: float = 1.0
    low_corrected: float = 0.0
    high_corrected: float = 0.0
    pooled: int = 0  # over how many arms the variance between seeds was pooled; 0 where it is the two arms' own

    @property
    def differs(self) -> bool:
        """Whether the difference is significant: the corrected interval excludes 0, exactly where the corrected p <
        0.05.
        """
        return not self.low_corrected <= 0.0 <= self.high_corrected


def compare(a: Arm, b: Arm, measure: Measure = Measure.PASS_AT, k: int = 1) -> Comparison:
    """The difference of a's measure and b's over the same tasks, with a 95 % interval.

    The standard error combines the tasks' differences (seeds averaged) and the seeds' differences (tasks averaged):
    their two variances of a mean are added, which is two-way clustering without the term for the cells (Cameron,
    Gelbach & Miller 2011, Robust inference with multiway clustering, Journal of Business & Economic Statistics 29(2)),
    slightly too wide and never negative. Where the arms share seeds, those are compared, seed by seed; arms that share
    none vary on their own. The interval is Student's with Welch and Satterthwaite's degrees of freedom (Satterthwaite
    1946, Biometrics Bulletin 2): a percentile bootstrap of three seeds cannot reach beyond the three. An arm of one
    seed shows no variance between seeds: the interval then holds for other tasks, with this seed. `detectable` is
    (t_0.975 + t_0.80) standard errors (Bloom 1995, Minimum detectable effects, Evaluation Review 19(5)), where several
    are compared with the quantile of Bonferroni's intervals in place of t_0.975. The superiority's interval is the
    percentile bootstrap's over tasks.

    Raises ValueError where the arms have other tasks, fewer than two of them, or where samples are missing.
    """
    one, other = _values([a, b], measure, k)
    return _with_interval(_Contrast.of(one, other), 1)


def compare_all(
    arms: Mapping[str, Arm], pairs: Sequence[tuple[str, str]], measure: Measure = Measure.PASS_AT, k: int = 1
) -> dict[tuple[str, str], Comparison]:
    """Several comparisons at once, corrected for their number.

    Intervals and p-values are Bonferroni's (Dunn 1961, Multiple comparisons among means, JASA 56): all intervals hold
    at once in 95 %, and one of them leaves out 0 exactly where its p is below 0.05. Holm's p-values would be smaller,
    and would contradict these intervals. Of more than two arms the variance between seeds is pooled, as `pooling` says:
    three seeds of two arms have two degrees of freedom, of seven arms twelve. That holds where seeds scatter alike in
    all arms; a pair with a single seed, and arms whose seeds plainly do not, keep their own. Simulated with one of five
    arms whose seeds scatter four times as far as the others', three seeds and 100 tasks, 90 % of the 95 % intervals of
    that arm cover (93 % unpooled; 89 % with one of three arms), and of all others at least 95 %. Raises ValueError as
    `compare` does.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    values = dict(zip(names, _values([arms[name] for name in names], measure, k), strict=True))
    contrasts = {(a, b): _Contrast.of(values[a], values[b], list(values.values())) for a, b in pairs}
    return {pair: _with_interval(contrast, len(pairs)) for pair, contrast in contrasts.items()}


def ranks(arms: Sequence[str], comparisons: Mapping[tuple[str, str], Comparison]) -> dict[str, tuple[int, int]]:
    """The best and the worst rank that each arm may have, given all pairwise comparisons, corrected.

    An arm ranks below those that are significantly better and above those that are significantly worse; its rank among
    the others is open (Mogstad, Romano, Shaikh & Wilhelm 2024, Inference for ranks, Review of Economic Studies 91(1)).
    """
    better, worse = dict.fromkeys(arms, 0), dict.fromkeys(arms, 0)
    for (a, b), comparison in comparisons.items():
        if comparison.differs:
            winner, loser = (a, b) if comparison.difference.value > 0 else (b, a)
            better[loser] += 1
            worse[winner] += 1
    return {arm: (1 + better[arm], len(arms) - worse[arm]) for arm in arms}


# ---------------------------------------------------------------- the pieces


_Rows = dict[Any, Floats]  # seed → [task]


def _values(arms: Sequence[Arm], measure: Measure, k: int) -> list[_Rows]:
    rows = iter(seeds_by_tasks([samples for arm in arms for samples in arm.values()], measure, k))
    return [{seed: next(rows) for seed in arm} for arm in arms]


@dataclass(frozen=True, slots=True)
class _Contrast:
    """The tasks' differences, and the standard error of their mean with its degrees of freedom."""

    differences: Floats  # [task]
    error: float
    freedom: float
    seeds: int
    same_seeds: bool
    pooled: int

    @classmethod
    def of(cls, a: _Rows, b: _Rows, arms: Sequence[_Rows] = ()) -> _Contrast:
        """`arms` are all those, a and b among them, over which the variance between seeds may be pooled."""
        shared = [seed for seed in a if seed in b]
        first, second = (np.stack([arm[seed] for seed in shared or arm]) for arm in (a, b))
        differences = first.mean(axis=0) - second.mean(axis=0)
        if differences.size < 2:
            raise ValueError("one task alone has no interval; compare over more")
        seeds = min(len(first), len(second))
        pool = _pool(shared, arms) if seeds > 1 else None
        if pool:
            between = [(pool.value * (1.0 / len(first) + 1.0 / len(second)), pool.freedom)]
        else:
            means = [(first - second).mean(axis=1)] if shared else [first.mean(axis=1), second.mean(axis=1)]
            between = [_variance_of_mean(part) for part in means if part.size > 1]
        terms = [_variance_of_mean(differences), *between]
        variance = math.fsum(value for value, _ in terms)
        spread = math.fsum(value**2 / freedom for value, freedom in terms)
        freedom = variance**2 / spread if spread > 0.0 else differences.size - 1.0
        return cls(differences, math.sqrt(variance), freedom, seeds, bool(shared), pool.arms if pool else 0)


def _pool(shared: Sequence[Any], arms: Sequence[_Rows]) -> SeedVariance | None:
    """Over the arms that have all shared seeds, or, where a pair shares none, over all arms that have several."""
    if shared:
        alike = [[arm[seed].mean() for seed in shared] for arm in arms if all(seed in arm for seed in shared)]
        return pooled_crossed(np.array(alike)) if len(alike) > 2 else None
    apart = [np.array([row.mean() for row in arm.values()]) for arm in arms if len(arm) > 1]
    return pooled_apart(apart) if len(apart) > 2 else None


def _variance_of_mean(values: Floats) -> tuple[float, int]:
    return float(values.var(ddof=1)) / values.size, values.size - 1


def _with_interval(contrast: _Contrast, compared: int) -> Comparison:
    value, tasks = float(contrast.differences.mean()), contrast.differences.size
    tail = (1.0 - CONFIDENCE) / 2.0
    if contrast.error > _ROUNDING:
        reach, wide = (t_quantile(1.0 - part, contrast.freedom) * contrast.error for part in (tail, tail / compared))
        p = 2.0 * (1.0 - t_cdf(abs(value) / contrast.error, contrast.freedom))
        detectable = wide + t_quantile(POWER, contrast.freedom) * contrast.error
        alone, at_once = (value - reach, value + reach), (value - wide, value + wide)
    else:
        unseen, rarer = at_most(tasks), at_most(tasks, 1.0 - 2.0 * tail / compared)
        p, detectable = min(1.0, 2.0 * (1.0 + abs(value)) ** -tasks), rarer
        alone, at_once = _all_alike(value, unseen), _all_alike(value, rarer)
    low, high = max(at_once[0], -1.0), min(at_once[1], 1.0)
    return Comparison(
        Estimate(value, max(alone[0], -1.0), min(alone[1], 1.0), tasks, contrast.seeds),
        _superiority(contrast),
        p,
        contrast.same_seeds,
        compared,
        detectable,
        min(1.0, compared * p),
        low,
        high,
        contrast.pooled,
    )


def _all_alike(value: float, unseen: float) -> tuple[float, float]:
    """The mean's bounds where all tasks seen differ by `value`, and a share `unseen` of others may differ by ±1.

    They leave out 0 where that share is below |v| / (1 + |v|), so where p = 2 (1 + |v|)^−n is below the level: at a
    gain of 1 on every task that is the sign test's.
    """
    return value - unseen * (1.0 + value), value + unseen * (1.0 - value)


def _superiority(contrast: _Contrast) -> Estimate:
    """Resampling tasks, each lost, tied or won, is drawing from three values: their sum's distribution is known."""
    tasks = contrast.differences.size
    signs = np.sign(np.where(np.abs(contrast.differences) < _ROUNDING, 0.0, contrast.differences))
    shares = [float((signs == sign).mean()) for sign in (-1, 0, 1)]
    chances = np.ones(1)  # of each number of half points
    for _ in range(tasks):
        chances = np.convolve(chances, shares)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.searchsorted(chances.cumsum(), [tail, 1.0 - tail]) / (2.0 * tasks)
    return Estimate(shares[1] / 2.0 + shares[2], float(low), float(high), tasks, contrast.seeds)
