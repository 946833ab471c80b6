"""Estimates with intervals that allow for samples being clustered by task, and tasks by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tau2_exp.statistics.estimators import Floats, Measure, Samples, seeds_by_tasks
from tau2_exp.types import stable_seed

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK = 1_000  # resamples at a time, which bounds the memory


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks and its 95 % interval, with the numbers of tasks and seeds that it depends on."""

    value: float
    low: float
    high: float
    tasks: int
    seeds: int = 1


def estimate(samples: Samples | Sequence[Samples], measure: Measure = Measure.PASS_AT, k: int = 1) -> Estimate:
    """The mean of the measure over tasks with a 95 % interval; a sequence holds the samples of one seed each.

    Tasks, and above them seeds where there are several, are resampled as wholes: the percentile bootstrap over crossed
    factors (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2)). Of S seeds S − 1 are drawn:
    drawing all S would understate the variance between few seeds by (S − 1)/S (McCarthy & Snowden 1985, The bootstrap
    and finite population sampling, Vital and Health Statistics 2(95)). Where no task differs from another, resampling
    sees no variance; the interval then allows for as many other tasks, of 0 or of 1, as may have gone unseen by the
    exact binomial bound with tasks as trials (Clopper & Pearson 1934). Raises ValueError where samples are missing or
    seeds have other tasks.
    """
    values = seeds_by_tasks([samples] if isinstance(samples, Mapping) else list(samples), measure, k)
    seeds, tasks = values.shape
    low, high = bootstrap(values)
    if values.min() == values.max():
        value, unseen = float(values.min()), at_most(tasks)
        low, high = value * (1.0 - unseen), value + unseen * (1.0 - value)
    return Estimate(float(values.mean()), low, high, tasks, seeds)


def bootstrap(values: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values` [seed, task]; the order of the tasks does not change it."""
    values = values[:, np.lexsort(values)]
    seeds, tasks = values.shape
    rng = np.random.default_rng(stable_seed("bootstrap", seeds, tasks))
    means = []
    for _ in range(RESAMPLES // _CHUNK):
        rows = rng.integers(seeds, size=(_CHUNK, max(seeds - 1, 1)))
        weights = np.stack([(rows == seed).mean(axis=1) for seed in range(seeds)], axis=1)  # [chunk, seed]
        columns = rng.integers(tasks, size=(_CHUNK, tasks))
        means.append(np.einsum("cs,sct->c", weights, values[:, columns]) / tasks)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100.0 - tail])
    return float(low), float(high)


def at_most(trials: int, confidence: float = CONFIDENCE) -> float:
    """The upper bound on the chance of an event seen in none of `trials` trials (Clopper & Pearson 1934, two-sided)."""
    return 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / trials)
