"""Drawing tokens: many rows at once, each by random numbers of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tau2_exp.types import Sampling

BELOW_ONE = 1.0 - 2.0**-22  # keeps u · total below total in float32, so that the draw never runs off the end


NUCLEUS = 1024  # tokens that are looked at first for top-p


def uniforms(seed: int, count: int) -> list[float]:
    """`count` numbers in [0, 1) that belong to `seed` alone (Philox, a counter-based generator)."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    return (generator.random(count, dtype=np.float32) * BELOW_ONE).tolist()


def sample(logits: Tensor, draws: Sequence[float], samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """One token a row, by inversion of its cumulative distribution at `draws`.

    logits [n, vocab]; returns ids [n] and their natural log-probabilities [n] under softmax(logits / temperature)
    before top-p and top-k (at temperature 1 where the temperature is 0, which is greedy).
    """
    scaled = _scale(logits.float(), samplings)
    peak = scaled.amax(-1, keepdim=True)
    weights = (scaled - peak).exp_()
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    u = torch.tensor(draws, device=logits.device, dtype=torch.float32)[:, None]
    if any(s.temperature > 0 and (s.top_p < 1 or s.top_k > 0) for s in samplings):
        ids = _truncated(weights, total, u, samplings)
    else:
        ids = torch.searchsorted(cumulative, u * total, right=True)
    if any(s.temperature == 0 for s in samplings):
        greedy = torch.tensor([s.temperature == 0 for s in samplings], device=logits.device)[:, None]
        ids = torch.where(greedy, logits.argmax(-1, keepdim=True), ids)
    log_probs = scaled.gather(-1, ids) - peak - total.log()
    return ids[:, 0], log_probs[:, 0]


def entropies(logits: Tensor, samplings: Sequence[Sampling]) -> list[float]:
    """The entropy of each row's softmax(logits / temperature) in nats, before top-p and top-k."""
    log_probs = _scale(logits.float(), samplings).log_softmax(-1)
    return torch.special.entr(log_probs.exp()).sum(-1).tolist()


def _scale(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    temperatures = [s.temperature or 1.0 for s in samplings]
    if all(t == 1.0 for t in temperatures):
        return logits
    return logits / torch.tensor(temperatures, device=logits.device)[:, None]


def _truncated(weights: Tensor, total: Tensor, u: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Draw among each row's top-k tokens, of those among the fewest that hold top-p of the mass."""
    size = weights.shape[-1]
    top_k = torch.tensor([s.top_k or size for s in samplings], device=weights.device)[:, None]
    top_p = torch.tensor([s.top_p for s in samplings], device=weights.device)[:, None]
    ordered, index = _largest(weights, total, samplings)
    rank = torch.arange(ordered.shape[-1], device=weights.device)
    ordered = ordered.masked_fill(rank >= top_k, 0.0)
    before = ordered.cumsum(-1) - ordered
    mass = torch.where(top_k < size, ordered.sum(-1, keepdim=True), total)
    ordered = ordered.masked_fill((before >= top_p * mass) & (rank > 0), 0.0)
    cumulative = ordered.cumsum(-1)
    place = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
    return index.gather(-1, place)


def _largest(weights: Tensor, total: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """The weights that truncation may keep, falling, with their ids: far fewer than a vocabulary, so not all sorted."""
    size = weights.shape[-1]
    bounds = [s.top_k or size for s in samplings if s.temperature > 0]
    count = max(bounds)
    if count == size and size > NUCLEUS:
        count = NUCLEUS
        ordered, index = weights.topk(count)
        held = ordered.sum(-1) / total[:, 0]
        asked = torch.tensor([s.top_p if s.temperature > 0 else 0.0 for s in samplings], device=weights.device)
        if bool((held >= asked).all()):
            return ordered, index
        count = size
    return weights.topk(min(count, size))
