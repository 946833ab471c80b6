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
    custom = "custom"


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

    kind: RewardKind = setting(RewardKind.shaped, "which reward: outcome, shaped, turn_level, custom (yours)")
    alpha: float = setting(
        0.25, "weight of the partial score beside the outcome (0 or 1); 0: the outcome alone", at_least=0
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
        "turn_level: discount per turn (γ) of progress still to come; at 1 all turns before progress are equal",
        at_least=0,
        at_most=1,
    )
    outcome_over_deviation: bool = setting(
        True, "whether the outcome's advantage is divided by the standard deviation of its group"
    )
    progress_over_deviation: bool = setting(
        False, "turn_level: whether the progress part of the advantage is divided by its standard deviation too"
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
        return self.kind is RewardKind.turn_level or self.credit is not None
