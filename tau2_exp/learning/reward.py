"""Trajectory → Reward: τ²-bench's outcome, the weighted parts of its verdict, and what each turn added to them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

from tau2_exp.config import READ_BY, PartWeights, RewardConfig, RewardKind
from tau2_exp.plugins import PluginError, call
from tau2_exp.types import Parts, Reward, Trajectory


def partial_score(parts: Parts, weights: PartWeights) -> float:
    """Φ: the weighted mean, in 0..1, of the parts that the task has; 0 where none of them has a weight."""
    pairs = [(getattr(parts, field.name), getattr(weights, field.name)) for field in dataclasses.fields(Parts)]
    present = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in present)
    return sum(value * weight for value, weight in present) / total if total > 0 else 0.0


def potentials(trajectory: Trajectory, config: RewardConfig) -> tuple[float, ...]:
    """Φ of the world as the episode found it, and as each of its turns left it."""
    weights = config.domain_weights.get(trajectory.domain, config.weights)
    return tuple(partial_score(parts, weights) for parts in (trajectory.initial, *(t.parts for t in trajectory.turns)))


def score(trajectory: Trajectory, config: RewardConfig) -> Reward:
    """The reward of an ended episode, by `reward.function` where there is one.

    Raises ValueError where a fault that is not the agent's ended it, PluginError where the function gives no Reward.
    """
    if config.function is None:
        return standard_score(trajectory, config)
    _check_scored(trajectory)
    reward = call("reward.function", config.function, trajectory, config)
    if not isinstance(reward, Reward) or len(reward.progress) != len(trajectory.turns):
        given = f"{len(reward.progress)} numbers" if isinstance(reward, Reward) else f"a {type(reward).__name__}"
        raise PluginError(
            f"reward.function={config.function}: returned {given} for {trajectory.key}; "
            f"it must return a Reward whose progress has one number for each of {len(trajectory.turns)} turns"
        )
    return reward


def standard_score(trajectory: Trajectory, config: RewardConfig) -> Reward:
    """The project's own formula, which a `reward.function` may begin with. Raises ValueError as `score` does.

    `shaped` is the reference pipeline's formula: outcome + alpha · multiplier · partial, and a premature ending has
    no partial score. `turn_level` scores the world as it stands however the episode ended. `outcome` and `branch` have
    alpha 0.
    """
    _check_scored(trajectory)
    phi = potentials(trajectory, config)
    stands = config.kind is RewardKind.turn_level or trajectory.stop.natural
    partial = phi[-1] if stands else 0.0
    shapes = config.kind in READ_BY["alpha"]
    alpha = config.alpha * config.multipliers.get(trajectory.domain, 1.0) if shapes else 0.0
    penalty = config.unparsable_penalty * sum(turn.error is not None for turn in trajectory.turns)
    return Reward(
        outcome=trajectory.outcome,
        partial=partial,
        shaped=trajectory.outcome + alpha * partial - penalty,
        progress=tuple(after - before for before, after in pairwise(phi)),
        alpha=alpha,
        phi=phi[-1],
    )


def _check_scored(trajectory: Trajectory) -> None:
    if not trajectory.scored:
        raise ValueError(f"{trajectory.key}: a faulted episode has no reward")
