"""Attention to the parts of what a query sees, joined, is attention to the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.engines.torch import attention
from tau2_exp.engines.torch.attention import (
    attend_last,
    attend_last_part,
    attend_part,
    attend_prefix,
    by_products,
    joined,
)

HEADS, KV_HEADS, DIM = 4, 2, 16


def random(tokens: int, heads: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(tokens, heads, DIM, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 30), st.sampled_from([0.1, 1.0, 30.0]))
def test_a_prefix_and_what_follows_are_the_whole(fed, prefix, before, scale):
    """Large scores are where the sums of weights differ most."""
    q = random(fed, HEADS, 0, scale)
    k, v = (random(prefix + before + fed, KV_HEADS, seed) for seed in (1, 2))
    by_heads = [x.transpose(0, 1)[None] for x in (q, k, v)]
    whole = attend_last(*by_heads)[0].transpose(0, 1)
    own, weight = attend_last_part(by_heads[0], *(x[:, :, prefix:] for x in by_heads[1:]))
    found = joined(own[0].transpose(0, 1), weight[0].T, *attend_prefix(q, *(x[:, :, :prefix] for x in by_heads[1:])))
    assert torch.allclose(found, whole, atol=2e-6)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_products_give_what_the_kernel_gives(at_once, monkeypatch):
    monkeypatch.setattr(attention, "SCORE_BYTES", 4 * 2 * KV_HEADS * 20 * at_once)
    q, k, v = (torch.randn(2, KV_HEADS, n, DIM, generator=torch.Generator().manual_seed(n)) for n in (7, 20, 20))
    for mask in (None, torch.zeros(2, 1, 1, 20).masked_fill_(torch.arange(20) >= 13, -torch.inf)):
        out, weight = by_products(q, k, v, mask)
        theirs, their_weight = attend_part(q, k, v, mask)
        assert torch.allclose(out, theirs, atol=1e-6) and torch.allclose(weight, their_weight, atol=1e-5)
        assert torch.allclose(out, F.scaled_dot_product_attention(q, k, v, mask), atol=1e-6)
