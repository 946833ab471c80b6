"""What a stage trains on, and in which order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from tau2_exp.types import Reward, Trajectory, stable_seed


def select_rft(
    groups: Mapping[str, Sequence[Trajectory]],
    keep_reward: float,
    keep_partial: float,
    score: Callable[[Trajectory], Reward],
) -> list[Trajectory]:
    """Rejection sampling: of each task every trajectory with at least `keep_reward` as its outcome.

    Of a task with none, the one with the best partial score (the first of equals) if that is at least `keep_partial`.
    Faulted episodes are never kept.
    """
    kept: list[Trajectory] = []
    for trajectories in groups.values():
        candidates = [t for t in trajectories if t.scored and t.turns]
        solved = [t for t in candidates if t.outcome >= keep_reward]
        best = max(candidates, key=lambda t: score(t).partial, default=None)
        if not solved and best is not None and score(best).partial >= keep_partial:
            solved = [best]
        kept.extend(solved)
    return kept


def epochs(n_rows: int, batch_size: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of one epoch as row indices, the last one maybe smaller.

    They follow from the arguments alone, so (epoch, batch number) is the whole position to save.
    """
    order = list(range(n_rows))
    random.Random(stable_seed(seed, "epoch", epoch)).shuffle(order)
    return [tuple(order[i : i + batch_size]) for i in range(0, n_rows, batch_size)]
