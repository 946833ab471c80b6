"""Credit goes to the turns that earned it, groups are compared with themselves alone, and no turn index is favoured."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.learning.advantage import advantages, has_signal
from tau2_exp.types import Reward

OUTCOME, SHAPED = RewardConfig(kind=RewardKind.outcome), RewardConfig(kind=RewardKind.shaped)
ALPHA = 0.5


def turn_level(discount: float = 0.9, **settings: bool) -> RewardConfig:
    return RewardConfig(kind=RewardKind.turn_level, turn_discount=discount, **settings)


def reward(outcome: float, *progress: float, shaped: float | None = None) -> Reward:
    """A trajectory's reward, from an untouched world that scores 0."""
    partial = sum(progress)
    return Reward(outcome, partial, outcome + ALPHA * partial if shaped is None else shaped, progress, ALPHA)


rewards = st.builds(
    lambda outcome, progress: reward(outcome, *progress),
    st.sampled_from([0.0, 1.0]),
    st.lists(st.sampled_from([-0.5, 0.0, 0.25, 1.0]), max_size=5),
)
groups = st.lists(rewards, min_size=1, max_size=6)
configs = st.builds(
    RewardConfig,
    kind=st.sampled_from(RewardKind),
    turn_discount=st.sampled_from([0.5, 0.9, 1.0]),
    outcome_over_deviation=st.booleans(),
    progress_over_deviation=st.booleans(),
)


class TestGroups:
    def test_all_turns_of_a_trajectory_share_its_reward(self):
        given = advantages([reward(1, 0, 0, 0), reward(0, 0)], OUTCOME)
        assert given == [pytest.approx((0.5**0.5,) * 3), pytest.approx((-(0.5**0.5),))]

    def test_the_deviation_is_optional(self):
        config = RewardConfig(kind=RewardKind.shaped, outcome_over_deviation=False)
        assert advantages([reward(1, 0, 0), reward(0, 0), reward(0, 0), reward(0, 0)], config)[0] == (0.75, 0.75)

    @given(group=groups, config=configs, data=st.data())
    def test_order_does_not_matter(self, group: list[Reward], config: RewardConfig, data: st.DataObject):
        order = data.draw(st.permutations(range(len(group))))
        straight, mixed = advantages(group, config), advantages([group[i] for i in order], config)
        for place, i in enumerate(order):
            assert mixed[place] == pytest.approx(straight[i], abs=1e-9)

    @given(group=groups, config=configs)
    def test_every_turn_has_one_and_a_trajectory_alone_has_none(self, group: list[Reward], config: RewardConfig):
        given = advantages(group, config)
        assert [len(a) for a in given] == [len(r.progress) for r in group]
        assert advantages(group[:1], config) == [(0.0,) * len(group[0].progress)]

    @given(
        outcomes=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=8),
        shift=st.floats(-5, 5),
        scale=st.floats(0.1, 10),
    )
    def test_over_the_deviation_neither_shift_nor_scale_matters(
        self, outcomes: list[float], shift: float, scale: float
    ):
        plain = advantages([reward(0, 0, shaped=o) for o in outcomes], SHAPED)
        moved = advantages([reward(0, 0, shaped=shift + scale * o) for o in outcomes], SHAPED)
        assert [a for (a,) in moved] == pytest.approx([a for (a,) in plain], abs=1e-6)
        assert sum(a for (a,) in plain) == pytest.approx(0.0, abs=1e-9)

    def test_rounding_is_no_difference(self):
        group = [reward(0, 0, shaped=0.1 + 0.2), reward(0, 0, shaped=0.3)]
        assert advantages(group, SHAPED) == [(0.0,), (0.0,)] and not has_signal(group)

    def test_signal_is_variance_of_outcome_or_shaped_reward(self):
        assert has_signal([reward(1, 0), reward(0, 0)])
        assert has_signal([reward(0, 0.5), reward(0, 0.25)])
        assert not has_signal([reward(1, 0.5), reward(1, 0.5)]) and not has_signal([reward(1, 0)])


class TestTurnCredit:
    @pytest.mark.parametrize("at", range(20))
    def test_the_turn_that_made_progress_gets_more_than_its_neighbours(self, at: int):
        """Twenty turns and one of them matters, early or late; the other attempts get nowhere."""
        progress = [0.0] * 20
        progress[at] = 1.0
        credit = advantages([reward(1, *progress), reward(0, *[0.0] * 20), reward(0, *[0.0] * 7)], turn_level())[0]
        assert all(credit[at] > other for i, other in enumerate(credit) if i != at)
        assert list(credit[: at + 1]) == sorted(
            credit[: at + 1]
        )  # those that led there share in it, the nearer the more

    def test_a_step_back_is_blamed_on_its_turn(self):
        credit = advantages([reward(0, 0.5, 0.0, -0.5, 0.0), reward(0, 0, 0, 0, 0)], turn_level())[0]
        assert credit[2] == min(credit) and credit[0] == max(credit)

    def test_without_discount_credit_is_what_is_still_to_come(self):
        credit = advantages([reward(1, 0.0, 1.0, 0.0), reward(1, 0.0)], turn_level(1.0))
        assert credit == [pytest.approx((0.25, 0.25, -0.25)), pytest.approx((-0.25,))]

    def test_penalties_stay_with_the_outcome(self):
        group = [reward(1, 0.5, shaped=1 + ALPHA * 0.5 - 0.3), reward(1, 0.5)]
        (first,), (second,) = advantages(group, turn_level())
        assert first < 0 < second

    @given(group=groups.filter(lambda g: len(g) > 1), discount=st.sampled_from([0.5, 1.0]))
    def test_each_term_averages_to_zero(self, group: list[Reward], discount: float):
        """The outcome's over trajectories, the progress's over all turns of the group."""
        relative = advantages([reward(r.outcome, 0.0) for r in group], turn_level(discount))
        full = advantages(group, turn_level(discount))
        assert fmean(a for (a,) in relative) == pytest.approx(0.0, abs=1e-9)
        credit = [a - own for turns, (own,) in zip(full, relative, strict=True) for a in turns]
        assert not credit or fmean(credit) == pytest.approx(0.0, abs=1e-9)

    def test_no_turn_index_is_favoured(self):
        """A policy that mostly stops early, and a good turn worth 1 at every index.

        The credit of a good turn above that of a bad one is its true worth at each index, those that few
        attempts reach included; statistics of one index would leave a lone attempt there without any.
        """
        rng = random.Random(0)
        gaps: dict[int, dict[bool, list[float]]] = {i: {True: [], False: []} for i in range(4)}
        for _ in range(1500):
            group = [self.attempt(rng) for _ in range(16)]
            given = advantages(group, turn_level(1.0, outcome_over_deviation=False))
            for r, turns in zip(group, given, strict=True):
                for i, credit in enumerate(turns):
                    gaps[i][r.progress[i] > 0].append(credit / ALPHA)
        for found in gaps.values():
            assert fmean(found[True]) - fmean(found[False]) == pytest.approx(1.0, abs=0.15)

    def attempt(self, rng: random.Random) -> Reward:
        turns = 1
        while turns < 4 and rng.random() < 0.4:
            turns += 1
        return reward(0, *[float(rng.random() < 0.5) for _ in range(turns)])
