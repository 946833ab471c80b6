"""Tasks come in turn or by need, each counts as it should, and a restored curriculum goes on where it was."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import CurriculumConfig, CurriculumKind
from tau2_exp.learning.curriculum import Curriculum

kinds = st.sampled_from(CurriculumKind)
KEYS = [f"telecom/{i}" for i in range(10)]


def make(kind: CurriculumKind = CurriculumKind.none, seed: int = 0, keys: list[str] = KEYS) -> Curriculum:
    return Curriculum(keys, CurriculumConfig(kind=kind), seed)


class TestDraws:
    @given(kind=kinds, sizes=st.lists(st.integers(1, 10), max_size=6), seed=st.integers(0, 99))
    def test_a_step_has_no_task_twice(self, kind: CurriculumKind, sizes: list[int], seed: int):
        curriculum = make(kind, seed)
        for size in sizes:
            drawn = curriculum.draw(size)
            assert len(drawn) == size == len(set(drawn))

    @given(kind=kinds, first=st.integers(1, 5), more=st.integers(1, 5))
    def test_a_refill_brings_others(self, kind: CurriculumKind, first: int, more: int):
        curriculum = make(kind)
        drawn = curriculum.draw(first)
        assert not set(drawn) & set(curriculum.draw(more, exclude=drawn))

    @given(kind=kinds, first=st.integers(0, 10), more=st.integers(1, 10))
    def test_a_draw_has_no_task_twice_though_others_were_drawn_before(
        self, kind: CurriculumKind, first: int, more: int
    ):
        curriculum = make(kind)
        before = curriculum.draw(first)
        drawn = curriculum.draw(more, exclude=before)
        assert len(set(drawn)) == more
        assert len(set(drawn) - set(before)) == min(more, len(KEYS) - first), "the others come first"

    @given(kind=kinds)
    def test_repeats_come_only_when_all_were_drawn(self, kind: CurriculumKind):
        counts = Counter(make(kind).draw(25))
        assert set(counts) == set(KEYS) and max(counts.values()) <= 3 and min(counts.values()) >= 2

    @given(sizes=st.lists(st.sampled_from([1, 2, 5, 10]), min_size=1, max_size=4))
    def test_no_task_falls_behind(self, sizes: list[int]):
        curriculum = make()
        counts = Counter(key for _ in range(10) for size in sizes for key in curriculum.draw(size))
        seen = [counts[key] for key in KEYS]
        assert max(seen) - min(seen) <= 2

    def test_epochs_differ_and_seeds_too(self):
        curriculum = make()
        assert curriculum.draw(10) != curriculum.draw(10)
        assert make(seed=1).draw(10) != make(seed=2).draw(10)
        assert make(seed=1).draw(10) == make(seed=1).draw(10)

    def test_adaptive_seeks_tasks_that_are_neither_solved_nor_hopeless(self):
        curriculum = make(CurriculumKind.adaptive)
        for key in KEYS[:4]:
            curriculum.record(key, [1.0] * 8)
        for key in KEYS[4:8]:
            curriculum.record(key, [0.0] * 8)
        counts = Counter(curriculum.draw(1)[0] for _ in range(2000))
        assert min(counts[key] for key in KEYS[8:]) > 3 * max(counts[key] for key in KEYS[:8])
        assert min(counts[key] for key in KEYS) > 0


class TestWeights:
    @pytest.mark.parametrize(
        ("solved", "weight"),
        [([0] * 4, 1), ([0] * 5, 0.5), ([1] * 5, 0.1), ([1, 1, 1, 0], 1), ([1, 1, 1, 0] * 2, 1), ([1, 0, 0, 0] * 2, 1)],
    )
    def test_the_references_weights_need_five_attempts(self, solved: list[float], weight: float):
        curriculum = make(CurriculumKind.reference)
        curriculum.record(KEYS[0], solved)
        assert curriculum.weight(KEYS[0]) == weight and curriculum.weight(KEYS[1]) == 1

    def test_only_the_outcome_of_one_is_solved(self):
        curriculum = make(CurriculumKind.reference)
        curriculum.record(KEYS[0], [0.9] * 5)
        assert curriculum.weight(KEYS[0]) == 0.5

    @pytest.mark.parametrize("kind", [CurriculumKind.none, CurriculumKind.adaptive])
    def test_elsewhere_all_count_the_same(self, kind: CurriculumKind):
        curriculum = make(kind)
        curriculum.record(KEYS[0], [1.0] * 9)
        assert curriculum.weight(KEYS[0]) == 1.0


events = st.lists(st.tuples(st.integers(0, 9), st.lists(st.sampled_from([0.0, 1.0]), max_size=4)), max_size=5)


@given(kind=kinds, before=events, after=events, sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5))
def test_a_restored_curriculum_goes_on_as_the_saved_one(kind: CurriculumKind, before, after, sizes: list[int]):
    saved, restored = make(kind, seed=7), make(kind, seed=7)
    for i, outcomes in before:
        saved.record(KEYS[i], outcomes)
    saved.draw(sizes[0])
    restored.restore(json.loads(json.dumps(saved.state())))
    for i, outcomes in after:
        saved.record(KEYS[i], outcomes)
        restored.record(KEYS[i], outcomes)
    assert [saved.draw(n) for n in sizes] == [restored.draw(n) for n in sizes]
    assert [saved.weight(key) for key in KEYS] == [restored.weight(key) for key in KEYS]
    assert saved.state() == restored.state()


def test_tasks_must_be_the_same_and_different():
    with pytest.raises(ValueError, match="other tasks"):
        make().restore(make(keys=["mock/1"]).state())
    for keys in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="each of them once"):
            make(keys=keys)
