"""How the groups of a step are played: the episodes of each task, and with reward=branch what goes on from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.config import BranchConfig, PointChoice
from tau2_exp.interfaces import Policy
from tau2_exp.learning.branching import choose_points, uncertain_points
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.rollouts.state import State
from tau2_exp.types import Branch, EpisodeSpec, Trajectory, stable_seed

Group = list[Trajectory]  # of one task: its trunks, then their continuations


@dataclass(frozen=True, slots=True)
class Point:
    """A state to go on from: that before `turn` of a trunk. `sample` is the number of its first continuation."""

    trunk: EpisodeSpec
    turn: int
    state: State
    sample: int


async def play_groups(
    setting: EpisodeSetting, policy: Policy, specs: Sequence[EpisodeSpec], samples: int, branch: BranchConfig | None
) -> list[Group]:
    """The episodes of the specs, by group; each `samples` specs in a row are of one. With `branch`, continued too.

    Raises ConfigError where episodes are to be continued, and a world or a user cannot be copied.
    """
    kept: dict[int, list[State]] | None = {} if branch else None
    played = await rollout(setting, policy, specs, kept=kept)
    groups = [played[start : start + samples] for start in range(0, len(played), samples)]
    if branch is not None and kept is not None:
        own = [specs[start : start + samples] for start in range(0, len(specs), samples)]
        await continue_groups(setting, policy, groups, own, kept, branch)
    return groups


async def continue_groups(
    setting: EpisodeSetting,
    policy: Policy,
    groups: Sequence[Group],
    specs: Sequence[Sequence[EpisodeSpec]],
    kept: dict[int, list[State]],
    branch: BranchConfig,
) -> None:
    """Play the continuations of all trunks, and add them to their groups.

    `specs` are the trunks', by group; `kept` has the states before each of their turns, by their index.
    """
    points: list[Point] = []
    places: list[Group] = []
    for group, trunks in zip(groups, specs, strict=True):
        sample = len(group)
        for trunk, turns in zip(trunks, _points(group, branch, trunks[0].seed), strict=True):
            for turn in turns:
                points.append(Point(trunk, turn, kept[trunk.index][turn], sample))
                places += [group] * branch.width
                sample += branch.width
    for group, trajectory in zip(places, await play_on(setting, policy, points, branch.width, "branch"), strict=True):
        group.append(trajectory)


async def play_on(
    setting: EpisodeSetting, policy: Policy, points: Sequence[Point], width: int, purpose: str
) -> list[Trajectory]:
    """`width` continuations from each point, point by point; other purposes draw other seeds."""
    begun = [(point, number) for point in points for number in range(width)]
    specs = [
        EpisodeSpec(
            point.trunk.task,
            point.sample + number,
            stable_seed(point.trunk.seed, purpose, point.turn, number),
            index,
            Branch(point.trunk.sample, point.turn, number),
        )
        for index, (point, number) in enumerate(begun)
    ]
    return await rollout(setting, policy, specs, starts={i: point.state for i, (point, _) in enumerate(begun)})


def _points(trunks: Group, branch: BranchConfig, seed: int) -> list[tuple[int, ...]]:
    if branch.choice is PointChoice.random:
        return choose_points(trunks, branch.points, stable_seed(seed, "points"))
    return [uncertain_points(t, branch.points, branch.threshold) if t.scored else () for t in trunks]
