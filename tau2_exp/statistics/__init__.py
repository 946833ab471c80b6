"""pass@k, pass^k, intervals that respect that a task's samples belong together, and paired comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tau2_exp.types import stable_seed

Samples = Mapping[str, Sequence[float]]  # task → the outcome of each of its samples
Floats = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_SOLVED = 1.0 - 1e-6  # τ²-bench's own tolerance
_CHUNK = 1_000  # resamples at a time, which bounds the memory


class Measure(str, Enum):
    """What is estimated of k samples of a task."""

    PASS_AT = "pass@"  # at least one of k is solved
    PASS_HAT = "pass^"  # all of k are solved


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks and its interval; `tasks` and `seeds` say what it stands on."""

    value: float
    low: float
    high: float
    tasks: int
    seeds: int = 1


def pass_at_k(n: Sequence[int], solved: Sequence[int], k: int) -> Floats:
    """Per task, the chance that at least one of k samples is solved: 1 − C(n−c, k) / C(n, k).

    Unbiased from n ≥ k samples of which c are solved (Chen et al. 2021, Evaluating Large Language Models Trained on
    Code, arXiv:2107.03374, eq. 1). Raises ValueError where n < k.
    """
    total, wins = _counts(n, solved, k)
    return 1.0 - _all_of(total - wins, total, k)


def pass_hat_k(n: Sequence[int], solved: Sequence[int], k: int) -> Floats:
    """Per task, the chance that all of k samples are solved: C(c, k) / C(n, k).

    Unbiased from n ≥ k samples of which c are solved (Yao et al. 2024, τ-bench, arXiv:2406.12045, section 3). Raises
    ValueError where n < k.
    """
    total, wins = _counts(n, solved, k)
    return _all_of(wins, total, k)


def per_task(samples: Samples, measure: Measure, k: int) -> dict[str, float]:
    """The measure of every task. Raises ValueError naming the tasks that have fewer than k samples."""
    if not samples:
        raise ValueError(f"{measure.value}{k}: there are no tasks")
    short = [f"{task} has {len(outcomes)}" for task, outcomes in samples.items() if len(outcomes) < k]
    if short:
        raise ValueError(f"{measure.value}{k} needs {k} samples a task: {', '.join(short)}")
    n = [len(outcomes) for outcomes in samples.values()]
    solved = [sum(outcome >= _SOLVED for outcome in outcomes) for outcomes in samples.values()]
    estimator = pass_at_k if measure is Measure.PASS_AT else pass_hat_k
    return dict(zip(samples, estimator(n, solved, k).tolist(), strict=True))


def estimate(samples: Samples | Sequence[Samples], measure: Measure = Measure.PASS_AT, k: int = 1) -> Estimate:
    """The mean of the measure over tasks with a 95 % interval; a sequence holds the samples of one seed each.

    Tasks, and above them seeds where there are several, are resampled as wholes: the percentile bootstrap over crossed
    factors (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2)). Where no task differs from
    another and all are 0 or all are 1, resampling sees no variance; the interval is then the exact binomial one with
    tasks as trials (Clopper & Pearson 1934). Raises ValueError where samples are missing or seeds have other tasks.
    """
    by_seed = [samples] if isinstance(samples, Mapping) else list(samples)
    values = _matrix(by_seed, measure, k)
    low, high = _bootstrap(values, resample_seeds=True)
    if values.min() == values.max() and values.min() in (0.0, 1.0):
        low, high = _exact(values.min() == 1.0, values.shape[1])
    return Estimate(float(values.mean()), low, high, tasks=values.shape[1], seeds=values.shape[0])


def paired_difference(
    a: Samples | Sequence[Samples],
    b: Samples | Sequence[Samples],
    measure: Measure = Measure.PASS_AT,
    k: int = 1,
) -> Estimate:
    """The mean over tasks of a's measure less b's, on the same tasks, with a 95 % interval.

    The seeds of each arm are averaged per task, and the tasks' differences resampled (percentile bootstrap, Efron &
    Tibshirani 1993, chapter 13): the interval speaks of other tasks, with these seeds. Raises ValueError where the
    arms have other tasks or samples are missing.
    """
    arms = [[arm] if isinstance(arm, Mapping) else list(arm) for arm in (a, b)]
    values = _matrix([*arms[0], *arms[1]], measure, k)
    split = len(arms[0])
    differences = values[:split].mean(axis=0) - values[split:].mean(axis=0)
    low, high = _bootstrap(differences[None, :], resample_seeds=False)
    return Estimate(float(differences.mean()), low, high, tasks=differences.size, seeds=min(map(len, arms)))


# ---------------------------------------------------------------- the pieces


def _counts(n: Sequence[int], solved: Sequence[int], k: int) -> tuple[Floats, Floats]:
    total, wins = np.asarray(n, dtype=np.float64), np.asarray(solved, dtype=np.float64)
    if k < 1 or np.any(total < k):
        raise ValueError(f"k = {k} needs at least one and at most as many samples as each task has")
    return total, wins


def _all_of(chosen: Floats, total: Floats, k: int) -> Floats:
    """C(chosen, k) / C(total, k) as a product of k ratios, which cannot overflow."""
    steps = np.arange(k)[:, None]
    ratios: Floats = np.maximum(chosen - steps, 0.0) / (total - steps)
    return ratios.prod(axis=0)


def _matrix(by_seed: Sequence[Samples], measure: Measure, k: int) -> Floats:
    """The measure as [seed, task], tasks in the order of the first seed's."""
    if not by_seed:
        raise ValueError("there are no seeds")
    tasks = list(by_seed[0])
    for samples in by_seed[1:]:
        other = set(tasks) ^ set(samples)
        if other:
            raise ValueError(f"not the same tasks everywhere: {', '.join(sorted(other)[:5])}")
    rows = [per_task(samples, measure, k) for samples in by_seed]
    return np.array([[row[task] for task in tasks] for row in rows])


def _bootstrap(values: Floats, resample_seeds: bool) -> tuple[float, float]:
    """The percentile interval of the mean of [seed, task]; the same numbers give the same interval everywhere."""
    seeds, tasks = values.shape
    rng = np.random.default_rng(stable_seed("bootstrap", seeds, tasks))
    means = []
    for _ in range(RESAMPLES // _CHUNK):
        drawn = rng.integers(seeds, size=(_CHUNK, seeds)) if resample_seeds else np.tile(np.arange(seeds), (_CHUNK, 1))
        weights = np.stack([(drawn == seed).mean(axis=1) for seed in range(seeds)], axis=1)  # [chunk, seed]
        columns = rng.integers(tasks, size=(_CHUNK, tasks))
        means.append(np.einsum("cs,sct->c", weights, values[:, columns]) / tasks)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100.0 - tail])
    return float(low), float(high)


def _exact(all_solved: bool, tasks: int) -> tuple[float, float]:
    """Clopper and Pearson's interval for none, or all, of so many trials."""
    bound = ((1.0 - CONFIDENCE) / 2.0) ** (1.0 / tasks)
    return (bound, 1.0) if all_solved else (0.0, 1.0 - bound)
