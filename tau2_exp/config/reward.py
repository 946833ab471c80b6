"""What an episode and a turn earn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tau2_exp.config.setting import setting


class RewardKind(str, Enum):
    """The rewards; see `reward=CHOICE`."""

    outcome = "outcome"
    shaped = "shaped"
    turn_level = "turn_level"
    anchor = "anchor"
    branch = "branch"
    custom = "custom"


class Baseline(str, Enum):
    """What a turn is compared with: the group's other episodes, or those that were in the same state."""

    group = "group"
    state = "state"


# The states in which turns of several episodes are compared; by call, since one of the names is no identifier.
Anchor = Enum("Anchor", {"world": "world", "world+last_observation": "world+last_observation"}, type=str)

# The kinds that read a setting; a setting that is not named here is read by every kind.
_SHAPING = (RewardKind.shaped, RewardKind.turn_level, RewardKind.custom)
READ_BY: dict[str, tuple[RewardKind, ...]] = {
    "alpha": (*_SHAPING, RewardKind.anchor),
    "multipliers": (*_SHAPING, RewardKind.anchor),
    "weights": _SHAPING,
    "domain_weights": _SHAPING,
    "turn_discount": (RewardKind.turn_level, RewardKind.anchor, RewardKind.custom),
    "baseline": (RewardKind.turn_level, RewardKind.custom),
    "anchor": (RewardKind.anchor, RewardKind.custom),
    "outcome_over_deviation": (RewardKind.outcome, RewardKind.shaped, RewardKind.anchor, RewardKind.custom),
}


@dataclass
class PartWeights:
    """Weights of the parts of the partial score; those that a task does not have are left out of its mean."""

    action: float = setting(0.5, "weight of the share of the reference actions that were taken", at_least=0)
    communicate: float = setting(0.15, "weight of the share of the required facts that the user was told", at_least=0)
    env_assertion: float = setting(0.35, "weight of the share of the environment's assertions that hold", at_least=0)
    db: float = setting(0.0, "weight of the final database: 1 where it equals the reference, else 0", at_least=0)
    db_progress: float = setting(
        0.0, "weight of the share of the reference changes that were made to the database", at_least=0
    )


@dataclass
class RewardConfig:
    """What an episode and a turn earn in GRPO; RFT ranks its samples by the same weights."""

    kind: RewardKind = setting(
        RewardKind.shaped, "which reward: outcome, shaped, turn_level, anchor, branch, custom (yours)"
    )
    alpha: float = setting(
        0.25,
        "weight beside the outcome of: the partial score (shaped), the turns' own progress (turn_level; 1: as much as "
        "the outcome), the turns of equal state (anchor); 0: the outcome alone",
        at_least=0,
    )
    weights: PartWeights = setting(PartWeights, "weights of the parts, for domains without weights of their own")
    domain_weights: dict[str, PartWeights] = setting(
        lambda: {"telecom": PartWeights(action=0.35, communicate=0.35, env_assertion=0.30)},
        "weights of the parts by domain, instead of reward.weights",
    )
    multipliers: dict[str, float] = setting(
        lambda: {"retail": 0.8, "airline": 1.0, "telecom": 1.6},
        "factor on alpha by domain; 1 for a domain that is not named",
        above=0,
    )
    unparsable_penalty: float = setting(0.0, "taken off the reward of an episode for each unparsable turn", at_least=0)
    turn_discount: float = setting(
        0.9,
        "turn_level and anchor: discount per turn (γ) of what is still to come; at 1 all turns before it are equal",
        at_least=0,
        at_most=1,
    )
    baseline: Baseline = setting(
        Baseline.state,
        "turn_level: what a turn is compared with: group (the task's other episodes) or state (those of them that were "
        "in the same world; where none was, all)",
    )
    anchor: Anchor = setting(
        Anchor["world+last_observation"],
        "anchor: which turns are in the same state: world (equal changes to the databases) or world+last_observation "
        "(and the same last message)",
    )
    outcome_over_deviation: bool = setting(
        True,
        "outcome, shaped, anchor: whether advantages are divided by the standard deviation of their group; with it, "
        "alpha cancels in a group of equal outcomes",
    )
    function: str | None = setting(
        None, "custom: module:name of your score(trajectory, config) -> Reward; null only without custom"
    )
    credit: str | None = setting(
        None,
        "module:name of your advantages(trajectories, rewards, config), one number for each turn; "
        "null: those of the reward's kind",
    )
    options: dict[str, Any] = setting(dict, "what function and credit read: +reward.options.NAME=VALUE")

    @property
    def per_turn(self) -> bool:
        """Whether the turns of one episode may be credited differently."""
        return self.kind in (RewardKind.turn_level, RewardKind.anchor, RewardKind.branch) or self.credit is not None
