"""A step's size in tokens: whatever groups turn out to cost, a run ends near its total."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import GrpoConfig
from tau2_exp.stages.step_size import Played, TaskCount, TokenBudget, step_size


def play(budget: TokenBudget, step: int, cost) -> tuple[float, int]:
    """The groups and the draws of one step."""
    so_far = Played()
    while (more := budget.more(step, so_far)).groups:
        share = more.samples(8) / 8
        newest = sum(round(share * cost()) for _ in range(more.groups))
        so_far = Played(so_far.draws + 1, so_far.groups + more.groups * share, 0, so_far.tokens + newest, newest)
    budget.close(so_far)
    return so_far.groups, so_far.draws


@given(st.integers(0, 10_000), st.integers(4, 20), st.floats(200, 3000), st.floats(0, 0.5), st.floats(0.5, 2))
def test_a_run_ends_within_a_group_and_a_half_of_its_total(
    seed: int, steps: int, mean: float, spread: float, growth: float
) -> None:
    """Groups that cost more and more, or less and less, and each as much as chance has it."""
    draw, step, per_step = random.Random(seed), 0, 20_000
    budget = TokenBudget(per_step, steps)

    def cost() -> int:
        return round(mean * growth ** (step / steps) * draw.uniform(1 - spread, 1 + spread))

    for step in range(steps):
        _, draws = play(budget, step, cost)
        assert draws == 1 or step in (0, steps - 1), "between, all groups of a step begin at once"
    assert abs(budget.spent - steps * per_step) <= 1.5 * mean * max(1, growth) * (1 + spread)


@given(st.integers(0, 10_000), st.floats(1000, 8000))
def test_arms_of_large_groups_end_within_two_percent_of_one_total_too(seed: int, mean: float) -> None:
    """A group may take 4 % of the whole run, give or take a fifth; the last ones have fewer samples then."""
    draw, budget = random.Random(seed), TokenBudget(20_000, 10)
    for step in range(10):
        play(budget, step, lambda: round(mean * draw.uniform(0.8, 1.2)))
    assert abs(budget.spent / 200_000 - 1) < 0.02


def test_tasks_that_differ_by_a_factor_leave_arms_within_two_percent() -> None:
    """Two or three groups a step, as with branches: what one of them cost says little of the next."""
    totals = []
    for seed in range(200):
        draw, budget = random.Random(seed), TokenBudget(8_000, 10)
        for step in range(10):
            play(budget, step, lambda: round(draw.uniform(1000, 4000) * draw.uniform(0.7, 1.3)))  # noqa: B023
        totals.append(budget.spent / 80_000 - 1)
    assert sum(abs(apart) < 0.02 for apart in totals) >= 195


@pytest.mark.parametrize("step", range(3))
def test_a_step_in_which_nothing_can_be_sampled_any_more_ends(step: int) -> None:
    budget, costs = TokenBudget(1000, 3), iter([100] * (10 * step + 1))
    for one in range(step + 1):
        _, draws = play(budget, one, lambda: next(costs, 0))
    assert draws <= 3


def test_what_was_sampled_too_much_is_taken_off_the_next_step() -> None:
    budget = TokenBudget(1000, 10)
    assert [play(budget, 0, lambda: 100), play(budget, 1, lambda: 150), play(budget, 2, lambda: 100)] == [
        (10, 2),
        (10, 1),
        (4, 1),  # 500 too many, at 133 each
    ]


def test_it_goes_on_where_it_was() -> None:
    one = TokenBudget(1000, 10)
    play(one, 0, lambda: 130)
    other = TokenBudget(1000, 10)
    other.restore(one.state())
    assert other == one and play(other, 1, lambda: 90) == play(one, 1, lambda: 90)


def test_a_count_of_tasks_draws_again_for_groups_without_signal() -> None:
    size = step_size(GrpoConfig(prompts_per_step=4, refill=1))
    assert isinstance(size, TaskCount)
    assert [size.more(0, Played(d, learned=n)).groups for d, n in ((0, 0), (1, 3), (1, 4), (2, 3))] == [4, 1, 0, 0]
    with pytest.raises(ValueError, match="neither"):
        step_size(GrpoConfig(prompts_per_step=None))
