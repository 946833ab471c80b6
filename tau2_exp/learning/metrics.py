"""What a step of GRPO reports of its episodes: the same names from every engine."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import READ_BY, RewardConfig, RewardKind
from tau2_exp.types import Parts, Reward, Trajectory

ROLLOUTS = "rollouts"  # the file of trajectories
Group = list[tuple[Trajectory, Reward]]  # the scored trajectories of one task


def grpo_label(reward: RewardConfig) -> str:
    """What a GRPO run's progress is called: its reward, with alpha where that kind reads it."""
    kind = reward.kind
    told = kind in READ_BY["alpha"] and kind is not RewardKind.custom
    return f"grpo {kind.value}" + (f" alpha {reward.alpha:g}" if told else "")


def rollout_metrics(groups: int, scored: Group, trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Means over the `scored` of all `trajectories`; `groups` is the number of groups that are learned from.

    Continuations are in no mean: they begin where an episode had come to, and say less of the policy as a whole.
    """
    faults = len(trajectories) - len(scored)
    scored, whole = ([(t, r) for t, r in scored if t.branch is None], [t for t in trajectories if t.branch is None])
    count, stops = max(len(scored), 1), Counter(t.stop.value for t in whole)
    figures = {
        "outcome": sum(r.outcome for _, r in scored) / count,
        "shaped": sum(r.shaped for _, r in scored) / count,
        "partial": sum(r.phi for _, r in scored) / count,  # what every kind of reward calls the same
        "turns": sum(len(t.turns) for t, _ in scored) / count,
        "unparsable": sum(turn.error is not None for t, _ in scored for turn in t.turns) / count,
        "truncated": sum(turn.truncated for t, _ in scored for turn in t.turns) / count,
        "groups": groups,
        "episodes": len(trajectories),
        "faults": faults,
    }
    if len(whole) < len(trajectories):
        figures["continuations"] = len(trajectories) - len(whole)
    return figures | _parts([t for t, _ in scored]) | {f"stop/{s}": n for s, n in stops.items()}


def _parts(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """The mean of each part of the score at an episode's end, over the episodes whose tasks have it."""
    ends = [t.turns[-1].parts if t.turns else t.initial for t in trajectories]
    names = [field.name for field in dataclasses.fields(Parts)]
    values = {name: [v for v in (getattr(parts, name) for parts in ends) if v is not None] for name in names}
    return {f"part/{name}": sum(found) / len(found) for name, found in values.items() if found}
