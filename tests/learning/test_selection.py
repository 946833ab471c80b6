"""Rejection sampling keeps what succeeded; an epoch holds every row once."""

from __future__ import annotations

import dataclasses

from dialogues import make_trajectory
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.learning.selection import epochs, select_rft
from tau2_exp.types import Fault, FaultSource, Message, Reward, Role, StopReason, ToolCall, Trajectory, Turn

LOOK = Message(Role.ASSISTANT, tool_calls=(ToolCall("look", {"at": "bill"}),))


class TestRejectionSampling:
    def attempt(self, outcome: float, partial: float, fault: Fault | None = None) -> Trajectory:
        stop = StopReason.FAULT if fault else StopReason.AGENT_STOP
        trajectory = make_trajectory(Turn("", (LOOK,)), reward=outcome, fault=fault, stop=stop)
        return dataclasses.replace(trajectory, seconds=partial)

    def select(self, **groups: list[Trajectory]) -> list[Trajectory]:
        return select_rft(groups, 1.0, 0.6, lambda t: Reward(t.outcome, t.seconds, 0.0, (), 0.0))

    def test_every_success_is_kept_and_nothing_beside_it(self):
        first, second, third = self.attempt(1, 0.9), self.attempt(0, 0.95), self.attempt(1, 0.2)
        assert self.select(a=[first, second, third]) == [first, third]

    def test_without_success_the_best_is_kept_if_it_is_good_enough(self):
        good, better, poor = self.attempt(0, 0.6), self.attempt(0, 0.7), self.attempt(0, 0.5)
        assert self.select(a=[good, better], b=[poor], c=[]) == [better]

    def test_a_faulted_episode_is_never_kept(self):
        assert self.select(a=[self.attempt(1, 1, Fault(FaultSource.USER, "timeout"))]) == []


@given(n=st.integers(0, 50), size=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(n: int, size: int, seed: int, epoch: int):
    batches = epochs(n, size, seed, epoch)
    assert sorted(i for rows in batches for i in rows) == list(range(n))
    assert all(len(rows) == size for rows in batches[:-1])
    assert batches == epochs(n, size, seed, epoch)
    assert n < 20 or batches != epochs(n, size, seed, epoch + 1)
