"""The advantages that each turn of a training rollout received, recomputed from its group in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from tau2_exp.config import RewardConfig
from tau2_exp.learning.advantage import advantages, has_signal
from tau2_exp.runs.run import Run
from tau2_exp.types import Reward, Trajectory


@dataclass(frozen=True, slots=True)
class Credit:
    """The advantages of one trajectory, before the curriculum's weight."""

    advantages: tuple[float, ...]  # one a turn
    share: float  # what every turn received for the episode as a whole
    samples: int  # the scored trajectories of its group
    signal: bool  # False: all of the group earned the same, so it was not trained on


def steps_of(run: Run) -> list[int]:
    """How many episodes the run had done at the end of each of its steps, by its metrics."""
    return list(accumulate(int(record["episodes"]) for record in run.metrics() if "episodes" in record))


def begins_group(group: Sequence[Trajectory], trajectory: Trajectory) -> bool:
    """Whether a trajectory is no member of the group before it in its file: samples differ there, tasks do not."""
    return any(t.sample == trajectory.sample or t.key != trajectory.key for t in group)


def credit(group: Sequence[Reward | None], config: RewardConfig) -> list[Credit | None]:
    """What the turns of each trajectory received; None for one that ended in a fault."""
    rewards = [reward for reward in group if reward]
    if not rewards:
        return [None] * len(group)
    whole = [replace(r, shaped=r.shaped - r.alpha * r.partial, alpha=0.0) for r in rewards]
    signal = has_signal(rewards)
    turns = advantages(rewards, config) if signal else [(0.0,) * len(reward.progress) for reward in rewards]
    shares = turns if all(len(set(a)) <= 1 for a in turns) else advantages(whole, config)
    found = iter(
        Credit(a, share[0] if share else 0.0, len(rewards), signal) for a, share in zip(turns, shares, strict=True)
    )
    return [next(found) if reward else None for reward in group]
