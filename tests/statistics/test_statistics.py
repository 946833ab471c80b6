"""Estimators agree with exhaustive enumeration, and intervals cover what they should."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.statistics import Estimate, Measure, estimate, pass_at_k, pass_hat_k, per_task

counts = st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


def simulate(rng: np.random.Generator, tasks: int, samples: int, gain: float = 0.0) -> dict[str, list[float]]:
    """Tasks of different difficulty, on average solved at 0.5 + gain."""
    chance = np.clip(rng.beta(1, 1, size=tasks), 0, 1 - gain) + gain
    return {f"t{i}": (rng.random(samples) < p).astype(float).tolist() for i, p in enumerate(chance)}


class TestEstimators:
    @given(case=counts)
    def test_they_are_the_mean_over_all_subsets(self, case: tuple[int, int, int]):
        n, solved, k = case
        subsets = list(combinations([1] * solved + [0] * (n - solved), k))
        assert pass_at_k([n], [solved], k)[0] == pytest.approx(np.mean([max(s) for s in subsets]))
        assert pass_hat_k([n], [solved], k)[0] == pytest.approx(np.mean([min(s) for s in subsets]))

    def test_many_samples_do_not_overflow(self):
        assert pass_at_k([10_000], [1], 100)[0] == pytest.approx(0.01)

    def test_tasks_may_have_different_numbers_of_samples(self):
        values = per_task({"a": [1, 0], "b": [1, 0, 0, 0]}, Measure.PASS_AT, 2)
        assert values == {"a": 1.0, "b": pytest.approx(0.5)}

    def test_an_incomplete_evaluation_says_what_is_missing(self):
        with pytest.raises(ValueError, match=r"pass@4 needs 4 samples a task: b has 3, c has 0"):
            estimate({"a": [1, 0, 0, 0], "b": [1, 1, 1], "c": []}, k=4)
        with pytest.raises(ValueError, match="there are no tasks"):
            estimate({})
        with pytest.raises(ValueError, match="k = 0"):
            pass_at_k([1], [1], 0)

    def test_almost_one_is_solved_as_in_the_benchmark(self):
        assert estimate({"a": [1 - 1e-9], "b": [0.99]}).value == 0.5


class TestIntervals:
    def test_the_same_samples_give_the_same_interval(self):
        samples = simulate(np.random.default_rng(0), 40, 4)
        found = estimate(samples)
        assert found == estimate(dict(reversed(samples.items()))) and found.low < found.value < found.high
        assert (found.tasks, found.seeds) == (40, 1)
        assert found.value == pytest.approx(np.mean([np.mean(s) for s in samples.values()]))

    @pytest.mark.parametrize(("solved", "low", "high"), [(0.0, 0.0, 0.0881), (1.0, 0.9119, 1.0)])
    def test_none_or_all_solved_is_not_certainty(self, solved: float, low: float, high: float):
        found = estimate({f"t{i}": [solved] for i in range(40)})
        assert (found.value, found.low, found.high) == pytest.approx((solved, low, high), abs=1e-4)

    def test_more_samples_of_a_task_are_not_more_tasks(self):
        rng = np.random.default_rng(1)
        chance = rng.integers(0, 2, size=40)  # a task is always or never solved: samples repeat one another
        one = estimate({f"t{i}": [float(p)] for i, p in enumerate(chance)})
        many = estimate({f"t{i}": [float(p)] * 16 for i, p in enumerate(chance)})
        assert (one.low, one.high) == (many.low, many.high)

    @pytest.mark.parametrize(("solved", "failed"), [(4, 0), (2, 2), (0, 4), (3, 1)])
    def test_tasks_that_are_all_alike_do_not_make_it_certain(self, solved: int, failed: int):
        found = estimate({f"t{i}": [1.0] * solved + [0.0] * failed for i in range(6)})
        unseen = 1 - 0.025 ** (1 / 6)
        assert found.low == pytest.approx(found.value * (1 - unseen))
        assert found.high == pytest.approx(found.value + unseen * (1 - found.value))

    def test_the_interval_covers_the_truth(self):
        rng = np.random.default_rng(2)
        covered = [found.low <= 0.5 <= found.high for found in (estimate(simulate(rng, 40, 4)) for _ in range(200))]
        assert 0.90 <= np.mean(covered) <= 0.99

    def test_seeds_that_differ_widen_it(self):
        rng = np.random.default_rng(3)
        alike = [simulate(np.random.default_rng(4), 40, 4)] * 3
        apart = [{task: [shift] * 4 for task in alike[0]} for shift in (0.0, 1.0)] + [simulate(rng, 40, 4)]
        assert self.width(estimate(apart)) > 2 * self.width(estimate(alike))
        assert estimate(apart).seeds == 3

    def test_it_covers_the_truth_over_few_seeds_too(self):
        """Three seeds, each of which moves all tasks: their interval reaches further than the tasks' alone."""
        rng, hits = np.random.default_rng(6), []
        for _ in range(100):
            chance = np.clip(rng.uniform(0.2, 0.8, size=40) + rng.normal(0, 0.04, size=(3, 1)), 0, 1)
            found = estimate([{f"t{i}": (rng.random(4) < p).tolist() for i, p in enumerate(seed)} for seed in chance])
            hits.append(found.low <= 0.5 <= found.high)
        assert np.mean(hits) >= 0.92

    def test_seeds_must_have_the_same_tasks(self):
        with pytest.raises(ValueError, match="not the same tasks everywhere: b, c"):
            estimate([{"a": [1], "b": [1]}, {"a": [1], "c": [1]}])

    def width(self, found: Estimate) -> float:
        return found.high - found.low
