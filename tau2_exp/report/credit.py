"""What the learner gave each turn of a training rollout: its group, found again in the file, and its advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.learning.advantage import advantages, has_signal
from tau2_exp.runs.run import Run
from tau2_exp.types import Reward, Trajectory


@dataclass(frozen=True, slots=True)
class Credit:
    """The advantages of one trajectory, before the curriculum's weight."""

    advantages: tuple[float, ...]  # one a turn
    share: float  # what every turn received for the episode as a whole
    samples: int  # the scored trajectories of its group
    signal: bool  # False: all of the group earned the same, the learner passed it over, and nobody received anything


def steps_of(run: Run) -> list[int]:
    """How many episodes the run had played at the end of each of its steps, as its metrics tell."""
    return list(accumulate(int(record["episodes"]) for record in run.metrics() if "episodes" in record))


def begins_group(group: Sequence[Trajectory], trajectory: Trajectory) -> bool:
    """Whether a trajectory is no member of the group before it in its file: samples differ there, tasks do not."""
    return any(t.sample == trajectory.sample or t.key != trajectory.key for t in group)


def credit(group: Sequence[Reward | None], config: RewardConfig) -> list[Credit | None]:
    """What the turns of each trajectory received; None for one without a reward, which a fault faulted."""
    rewards = [reward for reward in group if reward]
    if not rewards:
        return [None] * len(group)
    signal = has_signal(rewards)
    turns = advantages(rewards, config) if signal else [(0.0,) * len(reward.progress) for reward in rewards]
    shares = advantages(_whole(rewards), config) if signal and config.kind is RewardKind.turn_level else turns
    found = iter(
        Credit(a, share[0] if share else 0.0, len(rewards), signal) for a, share in zip(turns, shares, strict=True)
    )
    return [next(found) if reward else None for reward in group]


def _whole(rewards: Sequence[Reward]) -> list[Reward]:
    """The rewards without what turns earned by their own progress."""
    return [replace(r, shaped=r.shaped - r.alpha * r.partial, alpha=0.0) for r in rewards]
