"""The reference's formula, and what each turn adds to the score."""

from __future__ import annotations

import pytest
from dialogues import make_trajectory
from dialogues import parts as any_parts
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import PartWeights, RewardConfig, RewardKind
from tau2_exp.learning.metrics import rollout_metrics
from tau2_exp.learning.reward import partial_score, potentials, score
from tau2_exp.types import Fault, FaultSource, Parts, StopReason, Turn

CONFIG = RewardConfig()
weights = st.builds(PartWeights, *[st.floats(0, 1)] * 5)


def turn(parts: Parts, error: str | None = None) -> Turn:
    return Turn("", (), parts=parts, error=error)


class TestPartialScore:
    def test_weights_are_renormalised_over_the_parts_present(self):
        assert partial_score(Parts(action=1.0, communicate=0.0, env_assertion=0.0), PartWeights()) == pytest.approx(0.5)
        assert partial_score(Parts(action=1.0, communicate=0.0), PartWeights()) == pytest.approx(0.5 / 0.65)
        assert partial_score(Parts(env_assertion=0.25), PartWeights()) == pytest.approx(0.25)

    def test_a_part_that_is_zero_is_not_one_that_is_absent(self):
        assert partial_score(Parts(action=1.0, env_assertion=0.0), PartWeights()) < 1.0

    def test_nothing_to_weigh_is_zero(self):
        assert partial_score(Parts(), PartWeights()) == 0.0
        assert partial_score(Parts(db=1.0), PartWeights(db=0.0)) == 0.0

    @given(parts=any_parts, weights=weights)
    def test_it_stays_between_its_parts(self, parts: Parts, weights: PartWeights):
        assert -1e-9 <= partial_score(parts, weights) <= 1 + 1e-9


class TestScore:
    def test_shaped_is_the_references_formula(self):
        ended = make_trajectory(turn(Parts(action=0.5, env_assertion=1.0)), domain="telecom", reward=1.0)
        reward = score(ended, CONFIG)
        partial = (0.35 * 0.5 + 0.30 * 1.0) / 0.65
        assert reward.outcome == 1.0 and reward.partial == pytest.approx(partial)
        assert reward.alpha == pytest.approx(0.25 * 1.6)
        assert reward.shaped == pytest.approx(1.0 + 0.25 * 1.6 * partial)

    def test_domains_have_their_own_weights_and_multipliers(self):
        half = turn(Parts(action=1.0, env_assertion=0.0))
        assert score(make_trajectory(half, domain="retail"), CONFIG).shaped == pytest.approx(0.25 * 0.8 * 0.5 / 0.85)
        assert score(make_trajectory(half, domain="mock"), CONFIG).alpha == 0.25

    def test_the_outcome_alone_has_no_partial_credit(self):
        reward = score(make_trajectory(turn(Parts(action=1.0))), RewardConfig(kind=RewardKind.outcome))
        assert (reward.shaped, reward.alpha, reward.partial) == (0.0, 0.0, 1.0)

    @pytest.mark.parametrize("stop", [s for s in StopReason if not s.natural and s is not StopReason.FAULT])
    def test_a_premature_ending_has_partial_credit_only_by_turns(self, stop: StopReason):
        cut = make_trajectory(turn(Parts(action=0.5)), stop=stop)
        assert score(cut, CONFIG).partial == 0.0
        assert score(cut, RewardConfig(kind=RewardKind.turn_level)).partial == 0.5

    @pytest.mark.parametrize("kind", RewardKind)
    def test_curves_call_the_same_partial_score_whatever_is_rewarded(self, kind: RewardKind):
        cut = make_trajectory(turn(Parts(action=0.5)), stop=StopReason.MAX_STEPS)
        pair = (cut, score(cut, RewardConfig(kind=kind, alpha=0.0)))
        assert rollout_metrics(1, [pair], [cut])["partial"] == 0.5

    def test_each_unparsable_turn_costs_its_penalty(self):
        config = RewardConfig(unparsable_penalty=0.1)
        garbled = make_trajectory(turn(Parts(), "why"), turn(Parts(), "why"), turn(Parts(action=1.0)))
        assert score(garbled, config).shaped == pytest.approx(0.25 * 0.8 - 0.2)

    def test_a_faulted_episode_has_no_reward(self):
        faulted = make_trajectory(fault=Fault(FaultSource.USER, "timeout"), stop=StopReason.FAULT)
        with pytest.raises(ValueError, match="retail/t: a faulted episode"):
            score(faulted, CONFIG)

    def test_a_fault_of_the_agents_is_a_failure(self):
        failed = make_trajectory(turn(Parts(action=1.0)), fault=Fault(FaultSource.AGENT, "gone"), stop=StopReason.FAULT)
        assert score(failed, CONFIG).shaped == 0.0


class TestProgress:
    def test_every_turn_earns_what_it_adds(self):
        turns = [turn(Parts(env_assertion=phi)) for phi in (0.25, 0.25, 1.0, 0.5)]
        ended = make_trajectory(*turns, initial=Parts(env_assertion=0.25))
        assert potentials(ended, CONFIG) == pytest.approx((0.25, 0.25, 0.25, 1.0, 0.5))
        assert score(ended, CONFIG).progress == pytest.approx((0.0, 0.0, 0.75, -0.5))

    @given(initial=any_parts, states=st.lists(any_parts, max_size=5))
    def test_it_adds_up_to_the_way_made(self, initial: Parts, states: list[Parts]):
        config = RewardConfig(kind=RewardKind.turn_level)
        reward = score(make_trajectory(*map(turn, states), initial=initial), config)
        assert len(reward.progress) == len(states)
        assert sum(reward.progress) == pytest.approx(reward.partial - partial_score(initial, config.weights), abs=1e-9)
