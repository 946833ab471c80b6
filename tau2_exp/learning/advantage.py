"""Groups of rewards → advantages, one number for each turn of each trajectory.

Group-relative advantages are GRPO's (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.plugins import PluginError, call
from tau2_exp.types import Reward, Trajectory

_SAME = 1e-9  # rewards closer than this differ by rounding only


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """The advantages of one group's trajectories; without `signal` there is nothing to learn from them."""

    advantages: list[tuple[float, ...]]  # one number a turn, for each trajectory in its order
    signal: bool


def group_credit(trajectories: Sequence[Trajectory], rewards: Sequence[Reward], config: RewardConfig) -> GroupCredit:
    """The credit of one task's trajectories, by `reward.credit` where there is one.

    Then a group has signal where any advantage is not 0. Raises PluginError where the function gives other than one
    finite number for each turn of each trajectory.
    """
    if config.credit is None or not rewards:
        return GroupCredit(advantages(rewards, config) if rewards else [], has_signal(rewards))
    given = call("reward.credit", config.credit, trajectories, rewards, config)
    found = [tuple(float(number) for number in turns) for turns in given]
    wanted = [len(trajectory.turns) for trajectory in trajectories]
    if [len(turns) for turns in found] != wanted or not all(math.isfinite(a) for turns in found for a in turns):
        raise PluginError(
            f"reward.credit={config.credit}: must return finite numbers, {wanted} of them for the turns of "
            f"{len(wanted)} trajectories of {trajectories[0].key}; got {found}"
        )
    return GroupCredit(found, any(number != 0.0 for turns in found for number in turns))


def has_signal(group: Sequence[Reward]) -> bool:
    """Whether outcome or shaped reward varies within the group, so that there is something to learn from."""
    return _varies([r.outcome for r in group]) or _varies([r.shaped for r in group])


def advantages(group: Sequence[Reward], config: RewardConfig) -> list[tuple[float, ...]]:
    """The advantages of one task's trajectories, in their order; each has one number a turn.

    `outcome` and `shaped` give all turns of a trajectory its group-relative reward. `turn_level` gives turn t the
    group-relative outcome (less penalties) plus alpha · (G_t − mean G), where G_t = Σ_(s≥t) γ^(s−t) ΔΦ_s is the
    progress still to go. The mean, and the deviation where it is asked for, span all turns of the group: statistics
    of one turn index are biased where the policy decides when to stop. A group of one has nothing to be compared
    with: its advantages are 0.
    """
    if len(group) == 1:
        return [(0.0,) * len(group[0].progress)]
    if config.kind is not RewardKind.turn_level:
        relative = _relative([r.shaped for r in group], config.outcome_over_deviation)
        return [(a,) * len(r.progress) for a, r in zip(relative, group, strict=True)]
    relative = _relative([r.shaped - r.alpha * r.partial for r in group], config.outcome_over_deviation)
    returns = [_returns(r.progress, config.turn_discount) for r in group]
    credit = iter(_relative([g for gs in returns for g in gs], config.progress_over_deviation))
    return [tuple(a + r.alpha * next(credit) for _ in r.progress) for a, r in zip(relative, group, strict=True)]


def _returns(progress: Sequence[float], discount: float) -> list[float]:
    """The discounted sum of what is still to come, its own turn included, for each turn."""
    returns, to_go = [], 0.0
    for earned in reversed(progress):
        to_go = earned + discount * to_go
        returns.append(to_go)
    return returns[::-1]


def _relative(values: Sequence[float], over_deviation: bool) -> list[float]:
    """Values less their mean, optionally over their sample deviation; zeros where they do not vary."""
    if not _varies(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    centred = [value - mean for value in values]
    if not over_deviation:
        return centred
    deviation = math.sqrt(math.fsum(c * c for c in centred) / (len(values) - 1))
    return [c / deviation for c in centred]


def _varies(values: Sequence[float]) -> bool:
    return len(values) > 1 and max(values) - min(values) > _SAME
