"""Credit goes to the turns that earned it, groups are compared with themselves alone, and no baseline is biased."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
from dialogues import make_trajectory
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import Anchor, Baseline, RewardConfig, RewardKind
from tau2_exp.learning.advantage import Scale, credit_metrics, group_credit, rms, step_scale
from tau2_exp.learning.baseline import less_others
from tau2_exp.learning.reward import standard_score
from tau2_exp.types import Message, Parts, Reward, Role, Trajectory, Turn

OUTCOME, SHAPED = RewardConfig(kind=RewardKind.outcome), RewardConfig(kind=RewardKind.shaped)
ALPHA = 0.5
Pair = tuple[Trajectory, Reward]


def turn_level(discount: float = 0.9, baseline: Baseline = Baseline.group) -> RewardConfig:
    return RewardConfig(kind=RewardKind.turn_level, turn_discount=discount, baseline=baseline)


def played(outcome: float, *progress: float, worlds: Sequence[str] = (), penalty: float = 0.0) -> Pair:
    """An episode with its reward, from a world that scores 0; `worlds` names the world after each turn."""
    turns = [Turn("", (), changes={"world": world}) for world in worlds] or [Turn("", ()) for _ in progress]
    partial = sum(progress)
    reward = Reward(outcome, partial, outcome + ALPHA * partial - penalty, progress, ALPHA)
    return make_trajectory(*turns, domain="telecom", reward=outcome), reward


def advantages(group: Sequence[Pair], config: RewardConfig, scale: Scale | None = None) -> list[tuple[float, ...]]:
    """Those of a step of one group, or by a scale that is given."""
    credit = group_credit(group, config)
    return credit.advantages(step_scale([credit]) if scale is None else scale)


episodes = st.builds(
    lambda outcome, turns: played(outcome, *[p for p, _ in turns], worlds=[w for _, w in turns]),
    st.sampled_from([0.0, 1.0]),
    st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 1.0]), st.sampled_from("ab")), max_size=5),
)
groups = st.lists(episodes, min_size=1, max_size=6)
configs = st.builds(
    RewardConfig,
    kind=st.sampled_from(RewardKind),
    turn_discount=st.sampled_from([0.5, 0.9, 1.0]),
    outcome_over_deviation=st.booleans(),
    baseline=st.sampled_from(Baseline),
    anchor=st.sampled_from(Anchor),
)


class TestGroups:
    def test_all_turns_of_a_trajectory_share_its_reward(self):
        given = advantages([played(1, 0, 0, 0), played(0, 0, 0)], OUTCOME)
        assert given == [pytest.approx((0.5**0.5,) * 3), pytest.approx((-(0.5**0.5),) * 2)]

    @given(group=groups, config=configs, data=st.data())
    def test_order_does_not_matter(self, group: list[Pair], config: RewardConfig, data: st.DataObject):
        order = data.draw(st.permutations(range(len(group))))
        straight, mixed = advantages(group, config), advantages([group[i] for i in order], config)
        for place, i in enumerate(order):
            assert mixed[place] == pytest.approx(straight[i], abs=1e-9)

    @given(group=groups, config=configs)
    def test_every_turn_has_one_and_a_trajectory_alone_has_none(self, group: list[Pair], config: RewardConfig):
        assert [len(a) for a in advantages(group, config)] == [len(r.progress) for _, r in group]
        alone = group_credit(group[:1], replace(config, kind=RewardKind.turn_level))
        assert alone.advantages(Scale()) == [(0.0,) * len(group[0][1].progress)] and not alone.signal

    @given(group=groups, config=configs)
    def test_a_group_has_signal_where_any_advantage_is_not_0(self, group: list[Pair], config: RewardConfig):
        signal = group_credit(group, config).signal
        assert signal == any(a != 0 for turns in advantages(group, config) for a in turns)

    @given(
        outcomes=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=8),
        shift=st.floats(-5, 5),
        scale=st.floats(0.1, 10),
    )
    def test_over_the_deviation_neither_shift_nor_scale_matters(
        self, outcomes: list[float], shift: float, scale: float
    ):
        plain = advantages([played(o, 0) for o in outcomes], SHAPED)
        moved = advantages([(t, replace(r, shaped=shift + scale * r.shaped)) for t, r in map(lone, outcomes)], SHAPED)
        assert [a for (a,) in moved] == pytest.approx([a for (a,) in plain], abs=1e-6)
        assert sum(a for (a,) in plain) == pytest.approx(0.0, abs=1e-9)

    @pytest.mark.parametrize("config", [SHAPED, turn_level()])
    def test_rounding_is_no_difference(self, config: RewardConfig):
        group = [(lone(0)[0], replace(lone(0)[1], shaped=shaped)) for shaped in (0.1 + 0.2, 0.3)]
        assert advantages(group, config) == [(0.0,), (0.0,)] and not group_credit(group, config).signal

    def test_a_group_whose_terms_cancel_at_one_scale_has_signal_all_the_same(self):
        config = turn_level(discount=1.0)
        group = [(t, replace(r, alpha=1.0, shaped=r.outcome + r.partial)) for t, r in (played(1, 0.0), played(0, 1.0))]
        assert advantages(group, config, Scale()) == [(0.0,), (0.0,)] and group_credit(group, config).signal
        assert advantages(group, config, Scale(1.0, 2.0)) == [(0.5,), (-0.5,)]

    def test_the_reference_formula_loses_alpha_where_outcomes_are_equal_and_not_without_the_deviation(self):
        def at(alpha: float, over: bool) -> list[tuple[float, ...]]:
            group = [(t, replace(r, shaped=r.outcome + alpha * r.partial)) for t, r in (lone(0), played(0, 0.5))]
            return advantages(group, replace(SHAPED, outcome_over_deviation=over))

        assert [a for (a,) in at(0.1, True)] == pytest.approx([a for (a,) in at(0.5, True)])
        assert at(0.1, False) == [pytest.approx((-0.025,)), pytest.approx((0.025,))] and at(0.5, False)[1][0] == 0.125


def lone(outcome: float) -> Pair:
    return played(outcome, 0.0)


class TestTurnCredit:
    @pytest.mark.parametrize("at", range(0, 20, 3))
    def test_the_turn_that_made_progress_gets_more_than_its_neighbours(self, at: int):
        """Twenty turns and one of them matters, early or late; the other attempts get nowhere."""
        progress = [0.0] * 20
        progress[at] = 1.0
        credit = advantages([played(1, *progress), played(0, *[0.0] * 20), played(0, *[0.0] * 7)], turn_level())[0]
        assert all(credit[at] > other for i, other in enumerate(credit) if i != at)
        led_there = list(credit[: at + 1])
        assert led_there == sorted(led_there), "those that led there share in it, the nearer the more"

    def test_a_step_back_is_blamed_on_its_turn(self):
        credit = advantages([played(0, 0.5, 0.0, -0.5, 0.0), played(0, 0, 0, 0, 0)], turn_level())[0]
        assert credit[2] == min(credit) and credit[0] == max(credit)

    def test_penalties_stay_with_the_outcome(self):
        credit = group_credit([played(1, 0.5, penalty=0.3), played(1, 0.5)], turn_level())
        assert credit.episode == [pytest.approx((-0.3,)), pytest.approx((0.3,))] and credit.turn == [(0.0,), (0.0,)]

    @given(group=groups, config=configs, alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
    def test_alpha_weighs_two_terms_of_one_scale(self, group: list[Pair], config: RewardConfig, alpha: float):
        """0 is the outcome alone; at 1 both terms have an rms of 1 over all turns of the step."""
        group = [(t, replace(r, alpha=alpha, shaped=r.outcome + alpha * r.partial)) for t, r in group]
        credit = group_credit(group, replace(config, kind=RewardKind.turn_level))
        scale = step_scale([credit])
        whole, own = credit.advantages(scale), credit.own(scale)
        assert rms(a for turns in own for a in turns) == pytest.approx(
            alpha * any(a for turns in credit.turn for a in turns)
        )
        outcome = [a - b for turns, owns in zip(whole, own, strict=True) for a, b in zip(turns, owns, strict=True)]
        assert rms(outcome) == pytest.approx(float(any(a for turns in credit.episode for a in turns)), abs=1e-9)

    def test_the_share_and_the_signs_are_told(self):
        """One group of equal outcomes, whose turns differ; one where the outcome and the turns disagree."""
        equal = group_credit([played(1, 1.0), played(1, 0.0)], turn_level())
        contrary = group_credit([played(1, 0.0), played(0, 1.0)], turn_level())
        loud = replace(contrary, alpha=[2.0, 2.0])
        assert credit_metrics([equal], step_scale([equal]))["credit_share"] == 1.0
        told = credit_metrics([loud], step_scale([loud]))
        assert told["credit_sign"] == 1.0 and told["credit_share"] == 2.0
        quiet = replace(contrary, alpha=[0.5, 0.5])
        assert credit_metrics([quiet], step_scale([quiet]))["credit_sign"] == 0.0
        assert credit_metrics([], Scale()) == {}


class TestBaseline:
    def test_it_is_that_of_other_episodes_in_the_same_world_each_counted_once(self):
        """Turns begin in worlds -, a, a; -, a; -, b. The second episode's baseline in `a` is the first one's mean."""
        group = [
            played(1, 0.0, 0.5, 0.5, worlds="aaa"),
            played(0, 0.0, 0.25, worlds="aa"),
            played(1, 0.0, 0.125, worlds="ba"),
        ]
        credit = group_credit(group, turn_level(1.0, Baseline.state))
        assert credit.matched == [(True, True, True), (True, True), (True, False)]
        assert credit.turn[1][1] == pytest.approx(0.25 - fmean([1.0, 0.5]))
        assert credit.turn[0][1:] == pytest.approx((1.0 - 0.25, 0.5 - 0.25))
        assert credit.turn[2][1] == pytest.approx(0.125 - fmean([fmean([1.0, 1.0, 0.5]), fmean([0.25, 0.25])]))
        assert credit.episode[0] == pytest.approx((0.5, 1.0, 1.0)) and credit.episode[2] == pytest.approx((0.5, 0.5))

    def test_episodes_that_share_turns_are_in_no_baseline_of_each_other(self):
        credit, matched = less_others([1.0, 0.0, 4.0], [(1.0,), (0.0,), (4.0,)], [["s"]] * 3, [0, 0, 1])
        assert credit == [(-3.0,), (-4.0,), (3.5,)] and matched == [(True,)] * 3
        assert less_others([1.0, 0.0], [(1.0,), (0.0,)], [["s"]] * 2, [0, 0])[0] == [(0.0,), (0.0,)]

    @pytest.mark.parametrize("baseline", Baseline)
    @pytest.mark.parametrize("size", [2, 3])
    def test_the_gradient_is_unbiased(self, baseline: Baseline, size: int):
        """Over all groups of a small decision problem, by their probabilities: the mean estimate is the gradient.

        Two turns, two actions each, of which the probability depends on the world; the outcome and the progress on
        both actions. The gradient of the log-probabilities of a softmax is (chosen − probability).
        """
        chance = {"": 0.3, "0": 0.6, "1": 0.2}  # world → probability of action 1

        def run(first: int, second: int) -> tuple[float, Pair, list[tuple[str, float]]]:
            p = (chance[""] if first else 1 - chance[""]) * (chance[str(first)] if second else 1 - chance[str(first)])
            scores = [("", first - chance[""]), (str(first), second - chance[str(first)])]
            progress = (0.5 * first, 0.25 - 0.5 * (first != second))
            return p, played(float(first == second == 1), *progress, worlds=[str(first), f"{first}{second}"]), scores

        runs = [run(first, second) for first in (0, 1) for second in (0, 1)]
        config = turn_level(0.9, baseline)
        estimate, truth = dict.fromkeys(chance, 0.0), dict.fromkeys(chance, 0.0)
        for p, (_, reward), scores in runs:
            for t, (world, score) in enumerate(scores):
                to_go = sum(0.9**i * d for i, d in enumerate(reward.progress[t:]))
                truth[world] += p * score * (reward.outcome + ALPHA * to_go)
        for chosen in itertools.product(runs, repeat=size):
            given = advantages([pair for _, pair, _ in chosen], config, Scale())
            for (_, _, scores), credit in zip(chosen, given, strict=True):
                for (world, score), a in zip(scores, credit, strict=True):
                    estimate[world] += math.prod(p for p, _, _ in chosen) * a * score / size
        # With two episodes a baseline has the other one alone; where none met the state, its own mean.
        assert estimate == pytest.approx(truth)


class TestAnchor:
    CONFIG = RewardConfig(kind=RewardKind.anchor, alpha=1.0, turn_discount=0.5, multipliers={}, anchor=Anchor["world"])

    def score(self, trajectory: Trajectory) -> Pair:
        return trajectory, standard_score(trajectory, self.CONFIG)

    def test_turns_of_equal_worlds_are_compared(self):
        """Worlds -, a, a and -, b: only the first turns meet; their returns are 1 · 0.5² and 0."""
        group = [self.score(played(1, 0, 0, 0, worlds="aaa")[0]), self.score(played(0, 0, 0, worlds="bb")[0])]
        plain = replace(self.CONFIG, outcome_over_deviation=False)
        credit = group_credit(group, plain)
        assert credit.matched == [(True, False, False), (True, False)]
        assert credit.turn == [pytest.approx((0.125, -0.25, 0.25)), pytest.approx((-0.125, 0.0))]
        assert credit.episode == [(0.5,) * 3, (-0.5,) * 2]
        deviation = group_credit(group, self.CONFIG)
        assert deviation.turn[0] == pytest.approx((0.5**0.5, -(0.5**0.5), 0.5**0.5))
        assert deviation.advantages(step_scale([deviation]))[0][0] == pytest.approx(2 * 0.5**0.5), "no rms of the step"

    def test_the_last_observation_tells_states_apart(self):
        def one(outcome: float, said: str) -> Pair:
            heard = Message(Role.USER, said)
            turns = [Turn("", (Message(Role.ASSISTANT, "?"), heard), Parts()) for _ in range(2)]
            return self.score(make_trajectory(*turns, domain="telecom", reward=outcome))

        both = replace(self.CONFIG, anchor=Anchor["world+last_observation"])
        assert group_credit([one(1, "yes"), one(0, "no")], both).matched == [(True, False)] * 2
        assert group_credit([one(1, "yes"), one(0, "yes")], both).matched == [(True, True)] * 2
        assert group_credit([one(1, "yes"), one(0, "no")], self.CONFIG).matched == [(True, True)] * 2
