"""What a step of GRPO reports of its episodes: the same names from every engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tau2_exp.types import Reward, Trajectory

ROLLOUTS = "rollouts"  # the file of trajectories
Group = list[tuple[Trajectory, Reward]]  # the scored trajectories of one task


def rollout_metrics(groups: int, scored: Group, trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Means over the `scored` of all `trajectories` that were played; `groups` is how many are learned from."""
    count = max(len(scored), 1)
    return {
        "outcome": sum(r.outcome for _, r in scored) / count,
        "shaped": sum(r.shaped for _, r in scored) / count,
        "partial": sum(r.partial for _, r in scored) / count,
        "turns": sum(len(t.turns) for t, _ in scored) / count,
        "unparsable": sum(turn.error is not None for t, _ in scored for turn in t.turns) / count,
        "groups": groups,
        "episodes": len(trajectories),
        "faults": len(trajectories) - len(scored),
    } | {f"stop/{stop}": n for stop, n in Counter(t.stop.value for t in trajectories).items()}
