"""Truncated sampling draws what sorting the whole vocabulary would have drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.engines.torch import sampling as module
from tau2_exp.engines.torch.sampling import sample, uniforms
from tau2_exp.types import Sampling


def naive(logits: torch.Tensor, u: float, asked: Sampling) -> int:
    """In float64, one row at a time, everything sorted."""
    if asked.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.double() / asked.temperature).softmax(-1)
    order = probabilities.argsort(descending=True)[: asked.top_k or None]
    kept = probabilities[order] / probabilities[order].sum()
    nucleus = (kept.cumsum(-1) - kept) < asked.top_p
    nucleus[0] = True
    cumulative = (kept * nucleus).cumsum(-1)
    return int(order[torch.searchsorted(cumulative, u * cumulative[-1], right=True)])


SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 300]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SETTINGS, min_size=1, max_size=5), st.sampled_from([0.1, 1.0, 8.0]), st.integers(0, 10_000))
@pytest.mark.parametrize("nucleus", [8, 1024])
def test_truncation_is_that_of_a_whole_sort(nucleus, asked, spread, seed):
    logits = torch.randn(len(asked), 700, generator=torch.Generator().manual_seed(seed)) * spread
    draws = uniforms(seed, len(asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NUCLEUS", nucleus)
        ids, log_probs = sample(logits, draws, asked)
    for row, (found, u, one) in enumerate(zip(ids.tolist(), draws, asked, strict=True)):
        expected = naive(logits[row], u, one)
        scaled = (logits[row].double() / (one.temperature or 1.0)).log_softmax(-1)
        if found != expected:  # a draw within rounding of a border may fall on either side
            assert abs(scaled[found] - scaled[expected]) < 0.05
        assert abs(float(log_probs[row]) - float(scaled[found])) < 1e-4
