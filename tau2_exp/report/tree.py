"""The tree of a trunk and what was played on from it, as the viewer draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tau2_exp.learning.advantage import episode_return
from tau2_exp.learning.branching import Point, branch_credit
from tau2_exp.report.credit import Credit
from tau2_exp.types import Reward, Trajectory

Member = tuple[Trajectory, Reward | None, Credit | None]  # an episode of a group, with what it earned


def trees(group: Sequence[Member]) -> list[dict[str, Any] | None]:
    """For each episode of a group the tree that it is in, as JSON data; None where nothing was played on from it.

    `rows` are the trunk, then its continuations by their points: `offset` is how many places behind this episode it
    lies in its file, `advantages` are those of its own turns. `points` has V̂ of each; None where no continuation is
    scored.
    """
    values = _values(group)
    families: dict[int, list[int]] = {}
    for place, (trajectory, _, _) in enumerate(group):
        families.setdefault(trajectory.trunk, []).append(place)
    found: list[dict[str, Any] | None] = [None] * len(group)
    for root, places in families.items():
        places.sort(key=lambda place: (group[place][0].first_turn, place))
        turns = sorted({b.turn for place in places if (b := group[place][0].branch)})
        if turns:
            points = [{"turn": turn, "value": values.get((root, turn))} for turn in turns]
            for here in places:
                rows = [_row(group[place], place - here) for place in places]
                found[here] = {"rows": rows, "points": points}
    return found


def _values(group: Sequence[Member]) -> dict[Point, float]:
    scored = [(trajectory, episode_return(reward)) for trajectory, reward, _ in group if reward]
    return branch_credit([trajectory for trajectory, _ in scored], [outcome for _, outcome in scored]).values


def _row(member: Member, offset: int) -> dict[str, Any]:
    trajectory, reward, credit = member
    first = trajectory.first_turn
    return {
        "offset": offset,
        "first": first,
        "turns": len(trajectory.turns),
        "outcome": reward and reward.outcome,
        "advantages": credit and [round(a, 4) for a in credit.advantages[first:]],
    }
