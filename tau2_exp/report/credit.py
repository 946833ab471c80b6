"""The advantages that each turn of a training rollout received, recomputed from its group in the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.learning.advantage import Scale, Turns, group_credit
from tau2_exp.runs.run import Run
from tau2_exp.types import Reward, Trajectory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credit:
    """The advantages of one trajectory, before the weights of branches and of the curriculum."""

    advantages: Turns  # one a turn
    own: Turns  # what of each turn's advantage is the turn's own, not its episode's
    samples: int  # the scored trajectories of its group
    signal: bool  # False: no term of the group is other than 0, so it was not trained on


def steps_of(run: Run) -> list[int]:
    """How many episodes the run had done at the end of each of its steps, by its metrics."""
    return list(accumulate(int(record["episodes"]) for record in run.metrics() if "episodes" in record))


def scales_of(run: Run) -> list[Scale | None]:
    """The scale of each of the run's steps, by its metrics; None where the advantages cannot be computed again.

    A step in which no group had signal has no scale of its own. The steps of turn_level that tell none are of a
    version that computed it by another formula.
    """
    told = [record for record in run.metrics() if "episodes" in record]
    return [_scale(record, run.config.reward) for record in told]


def cut_groups(
    episodes: Iterable[T], ends: Sequence[int], trajectory_of: Callable[[T], Trajectory]
) -> Iterator[tuple[int | None, list[T]]]:
    """The groups of a file's episodes, in its order, each with its step from 1; None behind the last step's end.

    A group's samples differ and its task does not; none goes beyond the end of a step (`steps_of`).
    """
    group: list[T] = []
    step = 1
    for place, episode in enumerate(episodes):
        now = bisect_right(ends, place) + 1
        if group and (now != step or _begins(map(trajectory_of, group), trajectory_of(episode))):
            yield (step if step <= len(ends) else None), group
            group = []
        step = now
        group.append(episode)
    if group:
        yield (step if step <= len(ends) else None), group


def _begins(group: Iterable[Trajectory], trajectory: Trajectory) -> bool:
    return any(t.sample == trajectory.sample or t.key != trajectory.key for t in group)


def credit(
    group: Sequence[tuple[Trajectory, Reward | None]], config: RewardConfig, scale: Scale
) -> list[Credit | None]:
    """The credit of each trajectory's turns; None for one that ended in a fault."""
    scored = [(trajectory, reward) for trajectory, reward in group if reward]
    given = group_credit(scored, config)
    found = iter(
        Credit(turns, own, len(scored), given.signal)
        for turns, own in zip(given.advantages(scale), given.own(scale), strict=True)
    )
    return [next(found) if reward else None for _, reward in group]


def _scale(record: dict[str, Any], config: RewardConfig) -> Scale | None:
    if "credit_episode_rms" in record:
        return Scale(record["credit_episode_rms"], record["credit_turn_rms"])
    return None if config.kind is RewardKind.turn_level and record.get("groups") else Scale()
