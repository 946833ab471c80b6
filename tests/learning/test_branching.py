"""Branch credit: what enters a value and what does not, and that its gradient is the true one."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import product

import pytest
from dialogues import make_trajectory
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.learning.advantage import group_credit, rms, step_scale
from tau2_exp.learning.branching import branch_credit, choose_points
from tau2_exp.learning.reward import standard_score
from tau2_exp.types import Branch, Fault, FaultSource, Trajectory, Turn


def episode(sample: int, turns: int, outcome: float, branch: Branch | None = None) -> Trajectory:
    made = make_trajectory(*[Turn(str(i), ()) for i in range(turns)], reward=outcome)
    return dataclasses.replace(made, sample=sample, branch=branch)


@st.composite
def forests(draw: st.DrawFn) -> list[Trajectory]:
    """Trunks with continuations from some of their turns."""
    outcome, found = st.floats(-1, 1).map(lambda x: round(x, 3)), []
    for sample in range(draw(st.integers(1, 4))):
        found.append(episode(sample, draw(st.integers(0, 6)), draw(outcome)))
    for trunk in tuple(found):
        for turn in draw(st.sets(st.integers(0, max(0, len(trunk.turns) - 1)), max_size=3)) if trunk.turns else ():
            for number in range(draw(st.integers(1, 3))):
                turns = turn + draw(st.integers(1, 3))
                found.append(episode(len(found), turns, draw(outcome), Branch(trunk.sample, turn, number)))
    return found


def credit_of(forest: list[Trajectory]):
    return branch_credit(forest, [t.outcome for t in forest])


def other_outcome(forest: list[Trajectory], place: int) -> list[Trajectory]:
    changed = episode(forest[place].sample, len(forest[place].turns), 9.0, forest[place].branch)
    return [*forest[:place], changed, *forest[place + 1 :]]


@given(forests(), st.data())
def test_no_outcome_is_in_what_it_is_compared_with(forest: list[Trajectory], data: st.DataObject) -> None:
    """Another outcome of an episode moves the credit of its own last turns by as much, and no value of its own."""
    place = data.draw(st.integers(0, len(forest) - 1))
    one, credit, after = forest[place], credit_of(forest), credit_of(other_outcome(forest, place))
    points = [turn for sample, turn in credit.values if sample == one.sample]
    alone = not points and len([t for t in forest if t.branch is None]) == 1
    moved = 0.0 if one.branch is None and alone else 9.0 - one.outcome
    first = max(points, default=0) if one.branch is None else one.branch.turn
    for turn, (a, b) in enumerate(zip(credit.advantages[place], after.advantages[place], strict=True)):
        assert b - a == pytest.approx(moved if turn >= first else 0.0)
    if one.branch is None:
        assert after.values == credit.values
    else:
        mine = (one.branch.trunk, one.branch.turn)
        assert {p: v for p, v in after.values.items() if p != mine} == {
            p: v for p, v in credit.values.items() if p != mine
        }


@given(forests())
def test_a_trunks_segments_add_up_and_the_ends_of_a_point_weigh_one(forest: list[Trajectory]) -> None:
    credit = credit_of(forest)
    assert [len(a) for a in credit.advantages] == [len(w) for w in credit.weights] == [len(t.turns) for t in forest]
    trunks = [t for t in forest if t.branch is None]
    for trunk, advantages in zip(forest, credit.advantages, strict=False):
        if trunk.branch is not None:
            first = trunk.branch.turn
            assert not any(advantages[:first]) and len(set(advantages[first:])) == 1
            continue
        points = sorted(turn for sample, turn in credit.values if sample == trunk.sample)
        starts = [s for s, e in zip([0, *points], [*points, len(trunk.turns)], strict=True) if s < e]
        others = [t.outcome for t in trunks if t is not trunk]
        if trunk.turns and others and points[:1] != [0]:
            assert math.fsum(advantages[s] for s in starts) == pytest.approx(trunk.outcome - sum(others) / len(others))
    for sample, turn in credit.values:
        ends = [w[-1] for t, w in zip(forest, credit.weights, strict=True) if t.branch and _is_at(t, sample, turn)]
        trunk = next(w for t, w in zip(forest, credit.weights, strict=True) if t.sample == sample)
        assert math.fsum([*ends, trunk[turn]]) == pytest.approx(1.0)


def _is_at(trajectory: Trajectory, sample: int, turn: int) -> bool:
    return trajectory.branch is not None and (trajectory.branch.trunk, trajectory.branch.turn) == (sample, turn)


@given(forests(), st.integers(1, 3), st.integers(0, 99))
def test_places_follow_from_the_other_trunks_alone(forest: list[Trajectory], points: int, seed: int) -> None:
    trunks = [t for t in forest if t.branch is None]
    chosen = choose_points(trunks, points, seed)
    for i, (trunk, turns) in enumerate(zip(trunks, chosen, strict=True)):
        assert list(turns) == sorted(set(turns)) and len(turns) <= points
        assert all(0 < turn < len(trunk.turns) for turn in turns)
        longer = [*trunks[:i], episode(trunk.sample, len(trunk.turns) + 4, 0.5), *trunks[i + 1 :]]
        again = choose_points(longer, points, seed)[i]
        assert turns == tuple(turn for turn in again if turn < len(trunk.turns))


def test_a_faulted_trunk_has_no_points_and_gives_none() -> None:
    lost = dataclasses.replace(episode(0, 5, 0.0), verdict=None, fault=Fault(FaultSource.USER, "gone"))
    assert choose_points([lost, episode(1, 5, 0.0)], 2, 0) == [(), ()]
    assert any(choose_points([lost, episode(1, 5, 0.0), episode(2, 5, 0.0)], 2, 0))


# ---------------------------------------------------------------- the gradient, by enumeration

# Two actions in every state; the probability of the second, by what was done before. Episodes end at unequal places.
CHANCE = {(): 0.6, (1,): 0.3, (1, 1): 0.45}
REWARD = {(0,): 0.9, (1, 0): 0.25, (1, 1, 0): 1.0, (1, 1, 1): -0.4}
Path = tuple[int, ...]
Points = tuple[int, ...]


def ways(start: Path = ()) -> Iterator[tuple[Path, float]]:
    """Every ending from a state, with its probability."""
    if start in REWARD:
        yield start, 1.0
        return
    for action, chance in ((0, 1 - CHANCE[start]), (1, CHANCE[start])):
        yield from ((path, chance * p) for path, p in ways((*start, action)))


def add_scores(into: dict[Path, float], path: Path, factors: list[float]) -> None:
    """Add factor · ∂ log π / ∂ logit of each turn's state."""
    for turn, factor in enumerate(factors):
        into[path[:turn]] += factor * (path[turn] - CHANCE[path[:turn]])


def true_gradient() -> dict[Path, float]:
    found: dict[Path, float] = defaultdict(float)
    for path, chance in ways():
        add_scores(found, path, [chance * REWARD[path]] * len(path))
    return found


def continued(path: Path, other: Path, places) -> Iterator[tuple[dict[int, Path], float]]:
    """What is played from the points of a trunk, once from each that it reaches, and its probability.

    `places(path, other)` gives the choices of points, which are equally likely.
    """
    drawn = places(path, other) or [()]
    for points in drawn:
        reached = [place for place in points if place < len(path)]
        for played in product(*(ways(path[:place]) for place in reached)):
            found = dict(zip(reached, (way for way, _ in played), strict=True))
            yield found, math.prod(chance for _, chance in played) / len(drawn)


def expected_gradient(places) -> dict[Path, float]:
    found: dict[Path, float] = defaultdict(float)
    for (a, p), (b, q) in product(ways(), ways()):
        for (ours, r), (others, s) in product(continued(a, b, places), continued(b, a, places)):
            forest, paths = [episode(0, len(a), REWARD[a]), episode(1, len(b), REWARD[b])], [a, b]
            for sample, played in enumerate((ours, others)):
                for turn, path in played.items():
                    forest.append(episode(len(forest), len(path), REWARD[path], Branch(sample, turn, 0)))
                    paths.append(path)
            credit = credit_of(forest)
            for path, advantages, weights in zip(paths, credit.advantages, credit.weights, strict=True):
                factors = [p * q * r * s * x * w / 2 for x, w in zip(advantages, weights, strict=True)]
                add_scores(found, path, factors)
    return found


def one_place(_: Path, other: Path) -> list[Points]:
    return [(place,) for place in range(1, len(other))]


def all_places(_: Path, other: Path) -> list[Points]:
    return [tuple(range(1, len(other)))]


def test_the_expected_gradient_of_one_point_is_the_true_one_and_would_not_be_with_places_of_the_trunks_own() -> None:
    wanted = true_gradient()
    assert expected_gradient(one_place) == pytest.approx(wanted)
    biased = expected_gradient(lambda own, _: [(place,) for place in range(len(own))])
    assert max(abs(biased[s] - wanted[s]) for s in wanted) > 1e-3


def test_more_points_count_the_turns_behind_them_more_often_and_favour_no_action() -> None:
    wanted = true_gradient()
    often = dict.fromkeys(wanted, 1.0)
    # Where the other trunk reached turn 2, its episodes begin there anew: half of a turn's weight is new with width 1.
    often[1, 1] += 0.5 * CHANCE[()] * CHANCE[1,]
    assert expected_gradient(all_places) == pytest.approx({state: often[state] * wanted[state] for state in wanted})


def test_weights_are_beside_the_advantages_and_not_in_them() -> None:
    forest = [episode(0, 2, 1.0), episode(1, 2, 0.0), *(episode(2 + n, 2, 0.0, Branch(0, 1, n)) for n in range(2))]
    config = RewardConfig(kind=RewardKind.branch, alpha=0.0)
    credit = group_credit([(t, standard_score(t, config)) for t in forest], config)
    # V̂ of the point is 0, as is the other trunk's outcome; each continuation has one sibling at 0 and the trunk at 1.
    assert credit.turn == [(0.0, 1.0), (-1.0, -1.0), (0.0, -0.5), (0.0, -0.5)]
    assert credit.weighted(credit.turn)[0] == pytest.approx((0.0, 1 / 3))


@given(forests())
def test_a_steps_rms_over_the_turns_that_are_trained_is_one(forest: list[Trajectory]) -> None:
    config = RewardConfig(kind=RewardKind.branch, alpha=0.0)
    credit = group_credit([(t, standard_score(t, config)) for t in forest], config)
    given = list(credit.trained(credit.weighted(credit.advantages(step_scale([credit])))))
    assert len(given) == sum(len(t.turns) - t.first_turn for t in forest)
    assert rms(given) == pytest.approx(1.0) if credit.signal else not any(given)
