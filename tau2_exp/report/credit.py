"""The advantages that each turn of a training rollout received, recomputed from its group in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from tau2_exp.config import RewardConfig
from tau2_exp.learning.advantage import advantages, group_credit
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
    """Whether a trajectory begins a new group: in a file, a group's samples differ and its task does not."""
    return any(t.sample == trajectory.sample or t.key != trajectory.key for t in group)


def credit(group: Sequence[tuple[Trajectory, Reward | None]], config: RewardConfig) -> list[Credit | None]:
    """The credit of each trajectory's turns; None for one that ended in a fault."""
    scored = [(trajectory, reward) for trajectory, reward in group if reward]
    if not scored:
        return [None] * len(group)
    rewards = [reward for _, reward in scored]
    given = group_credit([trajectory for trajectory, _ in scored], rewards, config)
    turns = given.advantages if given.signal else [(0.0,) * len(reward.progress) for reward in rewards]
    shares = _shares(rewards, config) if config.per_turn and given.signal else turns
    found = iter(
        Credit(a, share[0] if share else 0.0, len(rewards), given.signal)
        for a, share in zip(turns, shares, strict=True)
    )
    return [next(found) if reward else None for _, reward in group]


def _shares(rewards: Sequence[Reward], config: RewardConfig) -> list[tuple[float, ...]]:
    """What is the episode's alone; a credit function of the user's own tells no such share."""
    if config.credit is not None:
        return [() for _ in rewards]
    return advantages([replace(r, shaped=r.shaped - r.alpha * r.partial, alpha=0.0) for r in rewards], config)
