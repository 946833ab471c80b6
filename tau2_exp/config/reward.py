"""What an episode and a turn earn."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class RewardKind(str, Enum):
    outcome = "outcome"
    shaped = "shaped"
    turn_level = "turn_level"


@dataclass
class PartWeights:
    action: float = 0.5
    communicate: float = 0.15
    env_assertion: float = 0.35
    db: float = 0.0
    db_progress: float = 0.0


@dataclass
class RewardConfig:
    kind: RewardKind = RewardKind.shaped
    alpha: float = 0.25
    weights: PartWeights = field(default_factory=PartWeights)
    domain_weights: dict[str, PartWeights] = field(
        default_factory=lambda: {"telecom": PartWeights(action=0.35, communicate=0.35, env_assertion=0.30)}
    )
    # of alpha, in that domain
    multipliers: dict[str, float] = field(default_factory=lambda: {"retail": 0.8, "airline": 1.0, "telecom": 1.6})
    unparsable_penalty: float = 0.0  # off the shaped reward, each unparsable turn
    turn_discount: float = 0.9  # γ, on the progress still to go (turn_level); at 1 all turns before progress tie
    outcome_over_deviation: bool = True  # divide the outcome's advantage by its group's deviation
    progress_over_deviation: bool = False  # the same for the turn's return (turn_level)
