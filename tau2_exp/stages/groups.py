"""How the groups of a step are played: the episodes of each task, and with reward=branch what goes on from them."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.config import BranchConfig, PointChoice
from tau2_exp.interfaces import Policy
from tau2_exp.learning.branching import choose_points, uncertain_points
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.rollouts.state import State
from tau2_exp.types import Branch, EpisodeSpec, Trajectory, stable_seed

Group = list[Trajectory]  # of one task: its trunks, then their continuations


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
    begun: list[EpisodeSpec] = []
    starts: dict[int, State] = {}
    places: list[Group] = []
    for group, trunks in zip(groups, specs, strict=True):
        sample = len(group)
        for trunk, turns in zip(trunks, _points(group, branch, trunks[0].seed), strict=True):
            for turn, number in ((turn, number) for turn in turns for number in range(branch.width)):
                seed = stable_seed(trunk.seed, "branch", turn, number)
                starts[len(begun)] = kept[trunk.index][turn]
                begun.append(EpisodeSpec(trunk.task, sample, seed, len(begun), Branch(trunk.sample, turn, number)))
                places.append(group)
                sample += 1
    for group, trajectory in zip(places, await rollout(setting, policy, begun, starts=starts), strict=True):
        group.append(trajectory)


def _points(trunks: Group, branch: BranchConfig, seed: int) -> list[tuple[int, ...]]:
    if branch.choice is PointChoice.random:
        return choose_points(trunks, branch.points, stable_seed(seed, "points"))
    return [uncertain_points(t, branch.points, branch.threshold) if t.scored else () for t in trunks]
