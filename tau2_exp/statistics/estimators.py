"""What is estimated of a task from its samples: pass@k and pass^k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tau2_exp.types import SOLVED

Samples = Mapping[str, Sequence[float]]  # task → the outcome of each of its samples
Floats = NDArray[np.float64]


class Measure(str, Enum):
    """What is estimated of k samples of a task."""

    PASS_AT = "pass@"  # at least one of k is solved
    PASS_HAT = "pass^"  # all of k are solved


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
    solved = [sum(outcome >= SOLVED for outcome in outcomes) for outcomes in samples.values()]
    estimator = pass_at_k if measure is Measure.PASS_AT else pass_hat_k
    return dict(zip(samples, estimator(n, solved, k).tolist(), strict=True))


def seeds_by_tasks(seeds: Sequence[Samples], measure: Measure, k: int) -> Floats:
    """The measure as [seed, task], tasks in the order of the first seed's.

    Raises ValueError where there are no seeds, where they have other tasks, or where samples are missing.
    """
    if not seeds:
        raise ValueError("there are no seeds")
    tasks = list(seeds[0])
    for samples in seeds[1:]:
        other = set(tasks) ^ set(samples)
        if other:
            raise ValueError(f"not the same tasks everywhere: {', '.join(sorted(other)[:5])}")
    rows = [per_task(samples, measure, k) for samples in seeds]
    return np.array([[row[task] for task in tasks] for row in rows])


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
