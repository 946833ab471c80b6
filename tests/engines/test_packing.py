"""Shared prefixes are computed once, and nobody can tell from the numbers: each row as if it were alone."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.config import EngineConfig, GrpoConfig, SftConfig
from tau2_exp.engines.torch.model import new_model
from tau2_exp.engines.torch.packing import Packed, pack, prefix_forest
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Row
from tests.engines.conftest import SHAPE, Place, lively, row, tokens, twin
from tests.engines.test_trainer import naive_grpo, naive_statistics, recorded


def with_own_values(ids: tuple[int, ...], seed: int) -> Row:
    """These tokens with flags, log-probabilities and advantages of their own."""
    made = row(len(ids), seed)
    return Row(ids, made.trained, made.log_probs, made.advantages)


@st.composite
def families(draw: st.DrawFn) -> list[Row]:
    """Rows that each go on from some place of an earlier one; some repeat it whole, or end within it."""
    seed = draw(st.integers(0, 1000))
    rows: list[tuple[int, ...]] = []
    for number in range(draw(st.integers(1, 7))):
        start: tuple[int, ...] = ()
        if rows:
            earlier = rows[draw(st.integers(0, len(rows) - 1))]
            start = earlier[: draw(st.integers(0, len(earlier)))]
        fresh = draw(st.integers(2 if len(start) < 2 else 0, 12))
        rows.append(start + tuple(tokens(fresh, seed + number)))
    return [with_own_values(ids, seed + 100 + i) for i, ids in enumerate(rows)]


def prefixes(rows: list[Row]) -> set[tuple[int, ...]]:
    return {r.ids[: i + 1] for r in rows for i in range(len(r.ids))}


def close(place: Place, found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    """Each number, relative to the largest of all the tensors."""
    return place.alike(found, wanted, 2e-6, least=0.25 + max(float(w.abs().max()) for w in wanted))


@settings(max_examples=settings().max_examples // 2)
@given(families(), st.sampled_from([8, 25, 1000]), st.sampled_from([0.0, 0.1, 1.0]))
def test_each_distinct_prefix_is_there_once_and_every_row_can_be_read_back(place, rows, batch_tokens, repeated):
    """A micro-batch is charged for its distinct tokens, and for what attention lays before each branch again."""
    batches = pack(rows, batch_tokens, repeated)
    assert sorted(r.ids for batch in batches for r in batch) == sorted(r.ids for r in rows)
    for batch in batches:
        packed = Packed(batch, place.device)
        assert len(packed.ids) == sum(packed.lengths) == len(prefixes(batch))
        copied = sum(
            sum(packed.lengths[number] for number in path) + length
            for path, length in zip(packed.ancestors, packed.lengths, strict=True)
            if path
        )
        assert len(packed.ids) + repeated * copied <= batch_tokens or len(batch) == 1
        segments, paths = prefix_forest([r.ids for r in batch])
        for r, path in zip(batch, paths, strict=True):
            assert segments[path[-1]].ancestors == path[:-1]
            parts = [segments[number] for number in path]
            assert sum((batch[s.row].ids[s.start : s.end] for s in parts), ()) == r.ids


@settings(max_examples=settings().max_examples // 4)
@given(families(), st.sampled_from([25, 1000]), st.booleans())
def test_gradients_are_those_of_the_rows_one_by_one(place, rows, batch_tokens, recompute):
    model = place.put(lively(new_model(SHAPE, seed=1), 3.0))
    reference = place.put(lively(new_model(SHAPE, seed=4), 3.0))
    exact, exact_reference = twin(model), twin(reference)
    engine = EngineConfig(batch_tokens=batch_tokens, recompute=recompute)
    config = GrpoConfig(kl=0.1, entropy=0.01)
    wanted = torch.autograd.grad(naive_grpo(exact, exact_reference, rows, config), list(exact.parameters()))
    grpo = recorded(Trainer(model, config, 10, engine, reference))
    grpo.grpo_step(rows)
    assert close(place, grpo._optimiser.gradients, list(wanted))

    terms = [
        naive_statistics(exact, r, 1.0)[0] * place.tensor(r.advantages[1:]) * place.tensor(r.trained[1:]) for r in rows
    ]
    loss = -torch.cat(terms).sum() / sum(sum(r.trained) for r in rows)
    wanted = torch.autograd.grad(loss, list(exact.parameters()))
    sft = recorded(Trainer(place.put(twin(model)), SftConfig(), 10, engine))
    assert sft.sft_step(rows)["loss"] == pytest.approx(
        loss.item(), rel=place.tolerance(1e-5), abs=place.tolerance(1e-6)
    )
    assert close(place, sft._optimiser.gradients, list(wanted))


@settings(max_examples=settings().max_examples // 4)
@given(families())
def test_log_probabilities_are_those_of_the_rows_one_by_one(place, rows):
    model = place.put(lively(new_model(SHAPE, seed=1), 3.0))
    with torch.no_grad():
        for batch in pack(rows, 1000):
            found, entropy = model.statistics(Packed(batch, model.device), 0.7, entropy=True)
            alone = [naive_statistics(twin(model), r, 0.7) for r in batch]
            flags = [place.tensor(r.trained[1:]) for r in batch]
            for mine, part in ((found, 0), (entropy, 1)):
                wanted = torch.cat([pair[part][flag] for pair, flag in zip(alone, flags, strict=True)])
                assert torch.allclose(mine, wanted, atol=place.tolerance(1e-5))


def test_opposite_advantages_on_the_same_tokens_cancel(model):
    ids = tuple(tokens(20))
    flags = (False,) + (True,) * 19
    rows = [Row(ids, flags, (-2.0,) * 20, (sign,) * 20) for sign in (1.0, -1.0)]
    trainer = recorded(Trainer(model, SftConfig(), 10, EngineConfig()))
    assert trainer.sft_step(rows)["loss"] == pytest.approx(0.0, abs=1e-6)
    assert all(g.abs().max() < 1e-6 for g in trainer._optimiser.gradients)


def test_micro_batches_keep_siblings_together_whatever_the_order():
    rows = [with_own_values((*tokens(30, task), i, *tokens(9, i)), i) for task in range(3) for i in range(1, 5)]
    random.Random(0).shuffle(rows)
    batches = pack(rows, 70)
    assert [len(Packed(batch, torch.device("cpu")).ids) for batch in batches] == [70, 70, 70]


def test_rows_are_cut_after_their_last_trained_token_and_bounded_by_distinct_ones():
    rows = [row(n, n) for n in (10, 20, 30, 70, 5)]
    rows[1] = Row(rows[1].ids, (False,) * 12 + (True,) + (False,) * 7, rows[1].log_probs, rows[1].advantages)
    batches = pack(rows, 50)
    assert sorted(len(r.ids) for batch in batches for r in batch) == [5, 10, 13, 30, 70]
    assert all(sum(len(r.ids) for r in batch) <= 50 or len(batch) == 1 for batch in batches)
    untrained = Row((1, 2), (False, False), (0.0, 0.0), (0.0, 0.0))
    assert pack([untrained], 50) == []
    with pytest.raises(ValueError, match="first token"):
        pack([Row((1, 2), (True, True), (0.0, 0.0), (0.0, 0.0))], 50)
