"""Credit by branches: what a turn was worth is what playing on from before it, and from after it, tells.

The value of a state is the mean outcome of continuations that were played from it, as in VinePPO (Kazemnejad et al.
2024, arXiv:2410.01679); the turns between two such states get the difference of their values, as segments do in SPO
(Guo et al. 2025, arXiv:2505.23564). Unlike VinePPO's, the continuations are trained on too.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from tau2_exp.types import Trajectory

Turns = tuple[float, ...]  # one number a turn of one trajectory
Point = tuple[int, int]  # the `sample` of a trunk, and the turn before which it was continued


@dataclass(frozen=True, slots=True)
class BranchCredit:
    """The credit of one task's trunks and continuations, in their order.

    `advantages` has one number a turn, divided by nothing, and 0 for a continuation's prefix; `weights` says how much
    each turn counts. `values` are V̂ of the points.
    """

    advantages: list[Turns]
    weights: list[Turns]
    values: dict[Point, float]


def branch_credit(trajectories: Sequence[Trajectory], outcomes: Sequence[float]) -> BranchCredit:
    """The credit of one task's scored trajectories; trunks have no `branch`.

    V̂ of a point is the mean outcome of its continuations. A trunk's turns before its first point get V̂ of that point
    less the mean outcome of the task's other trunks (0 without another), those between two points V̂ after less V̂
    before, those behind the last point the trunk's outcome less V̂ of that point. A continuation's own turns get its
    outcome less the mean of its siblings' and its trunk's. No outcome is in the number that it is compared with. The
    turns before the first point weigh 1; what was played from a point on (its continuations, and the trunk's turns up
    to its next point or its end) weighs 1 / (continuations + 1) each. A weight follows from the point before a turn
    alone: one that knew how the trunk went on would bias the gradient.

    A point without a scored continuation is none, and the turns around it are of one segment.
    """
    trunks = [i for i, t in enumerate(trajectories) if t.branch is None]
    named = {trajectories[i].sample: i for i in trunks}
    played = _continuations(trajectories)
    values = {point: fmean([outcomes[i] for i in found]) for point, found in played.items()}
    advantages, weights = [], []
    for i, trajectory in enumerate(trajectories):
        if trajectory.branch is None:
            others = [outcomes[j] for j in trunks if j != i]
            one, many = _of_trunk(trajectory, outcomes[i], others, values, played)
        else:
            origin, turn = trajectory.branch.trunk, trajectory.branch.turn
            siblings = [j for j in (*played[origin, turn], *_one(named.get(origin))) if j != i]
            credit = outcomes[i] - fmean([outcomes[j] for j in siblings]) if siblings else 0.0
            one = _spread([turn, len(trajectory.turns) - turn], [0.0, credit])
            many = _spread([turn, len(trajectory.turns) - turn], [0.0, 1 / (len(siblings) + 1)])
        advantages.append(one)
        weights.append(many)
    return BranchCredit(advantages, weights, values)


def choose_points(trunks: Sequence[Trajectory], points: int, seed: int) -> list[tuple[int, ...]]:
    """For each trunk of one task, the turns before which it is continued: at most `points`, rising.

    They are drawn from what stands before them. So the places are those of another trunk's turns (all but the first,
    which all trunks share), and one that this trunk did not reach falls away: places among its own turns would follow
    from where it ended, and a baseline that knows how an episode ends is biased.
    """
    chosen: list[tuple[int, ...]] = []
    for i, trunk in enumerate(trunks):
        others = [other for j, other in enumerate(trunks) if j != i and other.scored]
        if not trunk.scored or not others:
            chosen.append(())
            continue
        draw = random.Random(f"{seed} {trunk.sample}")
        places = range(1, len(draw.choice(others).turns))
        drawn = draw.sample(places, min(points, len(places)))
        chosen.append(tuple(sorted(turn for turn in drawn if turn < len(trunk.turns))))
    return chosen


def uncertain_points(trunk: Trajectory, points: int, threshold: float) -> tuple[int, ...]:
    """The first turns, at most `points` and none of them the trunk's first, whose first token's entropy is above it.

    Raises ValueError where a turn's entropy was not recorded.
    """
    found = []
    for turn, made in enumerate(trunk.turns[1:], start=1):
        if made.tokens is None or made.tokens.entropy is None:
            raise ValueError(f"{trunk.key}: turn {turn} has no record of its first token's entropy")
        if made.tokens.entropy > threshold:
            found.append(turn)
    return tuple(found[:points])


def _continuations(trajectories: Sequence[Trajectory]) -> dict[Point, list[int]]:
    found: dict[Point, list[int]] = defaultdict(list)
    for i, trajectory in enumerate(trajectories):
        if trajectory.branch is not None:
            found[trajectory.branch.trunk, trajectory.branch.turn].append(i)
    return dict(found)


def _of_trunk(
    trunk: Trajectory,
    outcome: float,
    others: Sequence[float],
    values: Mapping[Point, float],
    played: Mapping[Point, Sequence[int]],
) -> tuple[Turns, Turns]:
    """Advantages and weights, segment by segment."""
    points = sorted(turn for sample, turn in values if sample == trunk.sample)
    known = [values[trunk.sample, turn] for turn in points] + [outcome]
    before = fmean(others) if others else known[0]
    lengths = [b - a for a, b in pairwise([0, *points, len(trunk.turns)])]
    credit = [after - value for value, after in pairwise([before, *known])]
    weights = [1.0, *(1 / (len(played[trunk.sample, turn]) + 1) for turn in points)]
    return _spread(lengths, credit), _spread(lengths, weights)


def _spread(lengths: Sequence[int], numbers: Sequence[float]) -> Turns:
    return tuple(number for length, number in zip(lengths, numbers, strict=True) for _ in range(length))


def _one(place: int | None) -> tuple[int, ...]:
    return () if place is None else (place,)
