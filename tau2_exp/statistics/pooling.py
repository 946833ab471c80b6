"""The variance between seeds, from all arms that are compared: an arm's own few seeds have too few degrees of freedom.

Of arms with the same seeds it is the error mean square of the two-way layout, arms by seeds: what a seed brings to all
arms is in no difference of them. Of arms with seeds of their own it is that of the one-way layout (Scheffé 1959, The
Analysis of Variance, sections 3.1 and 4.2). Both take the arms' variances as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tau2_exp.statistics.estimators import Floats
from tau2_exp.types import stable_seed

LEVEL = 0.25  # of the test that forbids pooling
_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class SeedVariance:
    """The pooled variance, between seeds, of a seed's mean over tasks, with its degrees of freedom."""

    value: float
    freedom: int
    arms: int  # how many it was pooled over


def pooled_crossed(means: Floats) -> SeedVariance | None:
    """The variance from `means` [arm, seed] of arms with the same seeds; None where the arms' variances are unequal."""
    arms, seeds = means.shape
    squares = _squares(means)
    freedom = (arms - 1) * (seeds - 1)
    if unequal(squares, _crossed_limit(arms, seeds)):
        return None
    return SeedVariance(float(squares.sum()) / freedom, freedom, arms)


def pooled_apart(means: Sequence[Floats]) -> SeedVariance | None:
    """The variance from each arm's `means` [seed], two seeds at least; None where the arms' variances are unequal."""
    freedoms = tuple(part.size - 1 for part in means)
    squares = np.array([part.var(ddof=0) * part.size for part in means])
    if unequal(squares / freedoms, _apart_limit(freedoms)):
        return None
    return SeedVariance(float(squares.sum()) / sum(freedoms), sum(freedoms), len(means))


def unequal(variances: Floats, limit: float) -> bool:
    """Whether the greatest variance's share of their sum is above what equal ones show (Cochran 1941, The distribution
    of the largest of a set of estimated variances as a fraction of their total, Annals of Eugenics 11).

    A test of whether to pool is better made at 25 % than at 5 % (Bancroft 1964, Analysis and inference for incompletely
    specified models, Biometrics 20(3)): so of four studies whose arms are alike, one pools nothing.
    """
    total = float(variances.sum())
    return total > 0.0 and float(variances.max()) > limit * total


@cache
def _crossed_limit(arms: int, seeds: int) -> float:
    rng = np.random.default_rng(stable_seed("crossed", arms, seeds))
    return _limit(_squares(rng.standard_normal((_DRAWS, arms, seeds))))


@cache
def _apart_limit(freedoms: tuple[int, ...]) -> float:
    rng = np.random.default_rng(stable_seed("apart", *freedoms))
    return _limit(rng.chisquare(freedoms, size=(_DRAWS, len(freedoms))) / freedoms)


def _squares(means: Floats) -> Floats:
    """Of [..., arm, seed], each arm's sum of squares about its own mean and the seeds'."""
    rest = means - means.mean(axis=-1, keepdims=True)
    rest = rest - rest.mean(axis=-2, keepdims=True)
    squares: Floats = (rest**2).sum(axis=-1)
    return squares


def _limit(variances: Floats) -> float:
    return float(np.quantile(variances.max(axis=-1) / variances.sum(axis=-1), 1.0 - LEVEL))
