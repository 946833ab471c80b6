"""Which line of a run's file stands for an episode that was run more than once."""

from __future__ import annotations

from collections.abc import Iterable

from tau2_exp.rollouts.rollout import had_room
from tau2_exp.types import Trajectory

Trial = tuple[str, int]  # Task.key, sample


def stands(trajectory: Trajectory) -> bool:
    """Whether the episode is not run again: it has a score, and the agent's context had room for its first turn."""
    return trajectory.scored and had_room(trajectory)


def standing(recorded: Iterable[Trajectory]) -> dict[Trial, Trajectory]:
    """Of each episode the first trajectory that stands, else the last one recorded; in the order of the first lines."""
    found: dict[Trial, Trajectory] = {}
    for trajectory in recorded:
        known = found.get(key := (trajectory.key, trajectory.sample))
        if known is None or not stands(known):
            found[key] = trajectory
    return found
