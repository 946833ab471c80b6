"""Comparing arms: intervals that cover, corrections that hold, and no ranking beyond what is sure."""

from __future__ import annotations

from itertools import combinations, product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.statistics import Arm, Comparison, compare, compare_all, estimate, ranks
from tau2_exp.statistics.pooling import pooled_apart, pooled_crossed
from tau2_exp.statistics.student import t_cdf, t_quantile

Rng = np.random.Generator


def play(rng: Rng, chance: np.ndarray, spread: float, seeds: int = 3, samples: int = 4) -> Arm:
    """An arm: each seed's training came out a little better or worse than the chance of each task."""
    shift = rng.normal(0, spread, size=(seeds, 1))
    solved = rng.random((samples, seeds, chance.size)) < np.clip(chance + shift, 0, 1)
    return {
        seed: {f"t{task}": solved[:, seed, task].astype(float).tolist() for task in range(chance.size)}
        for seed in range(seeds)
    }


def every_pair(arms: dict[str, Arm]) -> dict[tuple[str, str], Comparison]:
    return compare_all(arms, list(combinations(arms, 2)))


class TestStudent:
    def test_it_is_cauchys_and_the_normal_at_its_ends(self):
        assert t_quantile(0.975, 1) == pytest.approx(np.tan(np.pi * 0.475))
        assert t_quantile(0.975, 1e6) == pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-5)

    @pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.302653), (5, 2.570582), (10, 2.228139), (30, 2.042272)])
    def test_it_is_the_table(self, freedom: int, quantile: float):
        assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=1e-6)

    @given(freedom=st.floats(1, 500), chance=st.floats(0.501, 0.9999))
    def test_quantiles_are_the_inverse_and_the_tails_alike(self, freedom: float, chance: float):
        t = t_quantile(chance, freedom)
        assert t_cdf(t, freedom) == pytest.approx(chance, abs=1e-8)
        assert t_cdf(-t, freedom) == pytest.approx(1 - chance, abs=1e-8)


class TestTwoArms:
    def test_seeds_are_averaged_task_by_task(self):
        a = {0: {"x": [1.0], "y": [1.0]}, 1: {"y": [0.0], "x": [1.0]}}
        b = {0: {"x": [0.0], "y": [0.0]}, 1: {"x": [0.0], "y": [0.0]}}
        found = compare(a, b)
        assert found.difference.value == pytest.approx(0.75) and found.superiority.value == 1.0
        back = compare(b, a)
        assert back.difference.value == pytest.approx(-0.75) and back.superiority.value == 0.0
        assert back.p == pytest.approx(found.p)

    def test_differences_that_are_equal_but_for_rounding_are_equal(self):
        """Two in three less one in three is not to the last bit three in three less two in three."""
        a = {0: {f"t{i}": [1.0, 1.0, float(i % 2)] for i in range(10)}}
        b = {0: {f"t{i}": [1.0, float(i % 2), 0.0] for i in range(10)}}
        found = compare(a, b)
        assert found.difference.value == pytest.approx(1 / 3)
        assert found.detectable > 0.1 and found.p == pytest.approx(2 * (4 / 3) ** -10)

    def test_pairing_sees_what_the_arms_alone_do_not(self):
        """All tasks gain a little; tasks differ by far more than that."""
        base = {f"t{i}": [1.0] * i + [0.0] * (20 - i) for i in range(20)}
        better = {f"t{i}": [1.0] * (i + 1 + i % 2) + [0.0] * (19 - i - i % 2) for i in range(19)} | {"t19": [1.0] * 20}
        found = compare({0: better}, {0: base}).difference
        assert found.low > 0 and estimate(better).low < estimate(base).high

    def test_same_seeds_are_paired_and_others_vary_on_their_own(self):
        """Seeds 0 and 1 begin at the same parents: what a parent brings is in both arms, and is no difference."""
        good, bad = {f"t{i}": [1.0] * 8 for i in range(10)}, {f"t{i}": [1.0] * (i % 3) + [0.0] * 6 for i in range(10)}
        same = compare({0: good, 1: bad}, {0: good, 1: bad})
        other = compare({0: good, 1: bad}, {2: good, 3: bad})
        assert same.same_seeds and not other.same_seeds
        assert same.difference.high < 0.4 < 0.9 < other.difference.high

    def test_what_one_arm_lacks_is_left_out_of_the_other(self):
        """An arm's third run is not finished: seeds 0 and 1 are compared."""
        a, b = (play(np.random.default_rng(i), np.full(20, 0.5), 0.1) for i in (0, 1))
        assert compare(a, {seed: b[seed] for seed in (0, 1)}) == compare(
            {s: a[s] for s in (0, 1)}, {s: b[s] for s in (0, 1)}
        )

    def test_rounding_puts_no_task_ahead(self):
        """Three seeds of three samples: their means are equal, and their sums in float64 are not."""
        solved = [(1, 1, 3), (1, 3, 1)]
        a, b = (
            {seed: {"t": [1.0] * n + [0.0] * (3 - n), "u": [1.0] * 3} for seed, n in enumerate(of)} for of in solved
        )
        assert compare(a, b).superiority.value == 0.5

    def test_superiority_is_of_tasks_with_ties_counted_half(self):
        """Two won, one tied, one lost; the interval is that of drawing four of them again and again."""
        a, b = ({"w": [1], "x": [1], "y": [1], "z": [x]} for x in (0, 1))
        b |= {"w": [0], "x": [0]}
        found = compare({0: a}, {0: b}).superiority
        drawn = sorted(sum(tasks) / 8 for tasks in product([0, 1, 2, 2], repeat=4))
        low, high = (drawn[round(len(drawn) * share)] for share in (0.025, 0.975))
        assert (found.value, found.low, found.high) == (0.625, low, high)

    def test_no_task_that_differs_is_not_certainty(self):
        arm = {0: {f"t{i}": [1.0, 0.0] for i in range(40)}}
        found = compare(arm, arm)
        assert found.difference.value == 0 and found.p == 1.0 and found.superiority.value == 0.5
        assert (found.difference.low, found.difference.high) == pytest.approx((-0.0881, 0.0881), abs=1e-4)

    def test_a_gain_on_every_task_is_as_sure_as_the_sign_test(self):
        tasks = [f"t{i}" for i in range(10)]
        found = compare({0: {task: [1.0] for task in tasks}}, {0: {task: [0.0] for task in tasks}})
        assert found.difference.value == found.difference.high == 1.0 and found.p == 2 / 2**10

    def test_what_does_not_compare_is_refused(self):
        with pytest.raises(ValueError, match="not the same tasks everywhere: b, c"):
            compare({0: {"a": [1], "b": [1]}}, {0: {"a": [1], "c": [1]}})
        with pytest.raises(ValueError, match=r"pass@1 needs 1 samples a task: b has 0"):
            compare({0: {"a": [1], "b": [1]}}, {0: {"a": [1], "b": []}})
        with pytest.raises(ValueError, match="one task alone"):
            compare({0: {"a": [1]}}, {0: {"a": [0]}})

    @pytest.mark.parametrize(("seeds", "spread", "least"), [(1, 0.0, 0.90), (2, 0.04, 0.87), (3, 0.04, 0.92)])
    @pytest.mark.parametrize("same", [True, False])
    def test_the_interval_covers_the_truth(self, seeds: int, spread: float, least: float, same: bool):
        rng, hits = np.random.default_rng(5), []
        for _ in range(300):
            chance = rng.uniform(0.2, 0.6, size=40)
            a, b = (play(rng, chance + gain, spread, seeds) for gain in (0.2, 0.0))
            found = compare(a, b if same else {seed + 10: samples for seed, samples in b.items()}).difference
            hits.append(found.low <= 0.2 <= found.high)
        assert np.mean(hits) >= least

    def test_a_difference_of_the_detectable_size_is_seen_as_often_as_promised(self):
        rng = np.random.default_rng(7)
        chance = rng.uniform(0.2, 0.6, size=40)
        design = np.median(
            [compare(play(rng, chance, 0.0, 1), play(rng, chance, 0.0, 1)).detectable for _ in range(50)]
        )
        seen = [compare(play(rng, chance + design, 0.0, 1), play(rng, chance, 0.0, 1)).p < 0.05 for _ in range(300)]
        assert 0.72 <= np.mean(seen) <= 0.88


class TestManyArms:
    @given(
        gains=st.lists(st.lists(st.integers(-4, 4), min_size=6, max_size=6), min_size=2, max_size=4),
        constant=st.booleans(),
    )
    def test_an_arm_differs_where_its_interval_leaves_out_0_and_its_p_is_below_the_level(
        self, gains: list[list[int]], constant: bool
    ):
        """Of every comparison, also where all tasks differ alike; Holm's p with these intervals would fail here."""
        arms = {"base": {0: {f"t{i}": [1.0] * 4 + [0.0] * 4 for i in range(6)}}}
        for place, arm in enumerate(gains):
            solved = [4 + (arm[0] if constant else gain) for gain in arm]
            arms[f"arm{place}"] = {0: {f"t{i}": [1.0] * n + [0.0] * (8 - n) for i, n in enumerate(solved)}}
        for found in compare_all(arms, [(f"arm{place}", "base") for place in range(len(gains))]).values():
            leaves_out = found.low_corrected > 0 or found.high_corrected < 0
            assert found.differs == leaves_out == (found.p_corrected < 0.05)
            assert found.low_corrected <= found.difference.low <= found.difference.high <= found.high_corrected

    def test_among_equal_arms_hardly_ever_any_differs(self):
        rng, wrong, missed = np.random.default_rng(8), 0, 0
        for _ in range(100):
            chance = rng.uniform(0.2, 0.8, size=30)
            found = every_pair({f"arm{i}": play(rng, chance, 0.03) for i in range(4)}).values()
            wrong += any(comparison.differs for comparison in found)
            missed += any(not c.low_corrected <= 0 <= c.high_corrected for c in found)
        assert wrong <= 0.08 * 100 and missed <= 0.08 * 100

    def test_one_of_several_is_corrected_and_one_alone_is_not(self):
        rng = np.random.default_rng(21)
        arms = {name: play(rng, np.full(40, chance), 0.0) for name, chance in (("a", 0.6), ("b", 0.5), ("c", 0.4))}
        alone, several = compare(arms["a"], arms["b"]), every_pair(arms)["a", "b"]
        assert (alone.p_corrected, alone.low_corrected) == (alone.p, alone.difference.low) and alone.compared == 1
        assert several.p < several.p_corrected and several.compared == 3 == several.pooled > alone.pooled
        assert several.low_corrected < several.difference.low

    def test_the_variance_between_seeds_is_that_of_all_arms(self):
        """Seed by seed the error mean square of arms by seeds; of seeds of their own, that within the arms."""
        means = np.random.default_rng(17).normal(size=(4, 3))
        crossed, apart = pooled_crossed(means), pooled_apart(list(means))
        assert crossed and apart and (crossed.freedom, apart.freedom, apart.arms) == (6, 8, 4)
        cells = means - means.mean(axis=1)[:, None] - means.mean(axis=0) + means.mean()
        assert crossed.value == pytest.approx((cells**2).sum() / 6)
        assert apart.value == pytest.approx(means.var(axis=1, ddof=1).mean())
        moved = pooled_crossed(means + np.array([0.0, 5.0, 9.0]))
        assert moved and moved.value == pytest.approx(crossed.value), "what a seed brings to all arms"
        two = pooled_crossed(means[:2])
        assert two and two.value == pytest.approx((means[0] - means[1]).var(ddof=1) / 2), "as if compared alone"

    def test_seeds_that_scatter_plainly_more_in_one_arm_are_not_pooled(self):
        means = np.random.default_rng(12).normal(size=(5, 3)) * np.array([[20.0], [1], [1], [1], [1]])
        assert pooled_crossed(means) is None and pooled_apart(list(means)) is None
        assert pooled_apart([np.zeros(3)] * 3) is not None, "arms that never vary are alike"

    @pytest.mark.parametrize("same", [True, False])
    @pytest.mark.parametrize(("last", "least"), [(0.03, 0.93), (0.12, 0.86)])
    def test_pooled_intervals_cover_also_where_one_arm_scatters_more(self, same: bool, last: float, least: float):
        rng, covered, narrower = np.random.default_rng(13), [], []
        for _ in range(120):
            chance = rng.uniform(0.3, 0.7, size=60)
            arms = {f"arm{i}": play(rng, chance, spread) for i, spread in enumerate([0.03] * 4 + [last])}
            if not same:
                arms = {name: {(name, seed): runs for seed, runs in arm.items()} for name, arm in arms.items()}
            found = compare_all(arms, [(name, "arm0") for name in list(arms)[1:]])["arm4", "arm0"]
            covered.append(found.difference.low <= 0 <= found.difference.high)
            alone = compare(arms["arm4"], arms["arm0"]).difference
            narrower.append(found.difference.high - found.difference.low < alone.high - alone.low)
        assert np.mean(covered) >= least
        if last == 0.03 and same:
            assert np.mean(narrower) > 0.5, "which is what pooling is for"

    def test_one_seed_borrows_no_variance(self):
        rng = np.random.default_rng(15)
        arms = {f"arm{i}": play(rng, np.full(30, 0.5), 0.05, seeds) for i, seeds in enumerate((3, 3, 3, 1))}
        found = every_pair(arms)
        assert found["arm0", "arm1"].pooled == 3 and found["arm0", "arm3"].pooled == 0
        assert found["arm0", "arm3"].difference == compare(arms["arm0"], arms["arm3"]).difference

    def test_arms_are_ranked_only_where_it_is_sure(self):
        rng = np.random.default_rng(10)
        chances = {"worst": 0.1, "good": 0.70, "also good": 0.69, "middling": 0.4}
        arms = {name: play(rng, np.full(60, chance), 0.01) for name, chance in chances.items()}
        found = ranks(list(arms), every_pair(arms))
        assert found == {"good": (1, 2), "also good": (1, 2), "middling": (3, 3), "worst": (4, 4)}
