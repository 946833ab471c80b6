"""How the groups of a step are played: the episodes of each task."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.interfaces import Policy
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.types import EpisodeSpec, Trajectory


async def play_groups(
    setting: EpisodeSetting, policy: Policy, specs: Sequence[EpisodeSpec], samples: int
) -> list[list[Trajectory]]:
    """The episodes of the specs, by group; each `samples` specs in a row are of one."""
    played = await rollout(setting, policy, specs)
    return [played[start : start + samples] for start in range(0, len(played), samples)]
