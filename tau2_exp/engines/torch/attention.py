"""Attention: of packed sequences that share prefixes, of the last tokens of a cached one, and of parts to be joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

SCORE_BYTES = 256 << 20  # of scores that `by_products` holds at once

# (layer, q [N, heads, d], k [N, kv_heads, d], v [N, kv_heads, d]) → [N, heads, d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def tree_attention(lengths: Sequence[int], ancestors: Sequence[Sequence[int]]) -> Attend:
    """Causal attention of each packed segment to its ancestors and itself: exact, no padding."""
    sizes = list(lengths)

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys, values = q.split(sizes), k.split(sizes), v.split(sizes)

        def along(path: Sequence[int], parts: Sequence[Tensor], own: int) -> Tensor:
            return torch.cat([*(parts[number] for number in path), parts[own]]) if path else parts[own]

        return torch.cat(
            [causal_attention(queries[i], along(p, keys, i), along(p, values, i)) for i, p in enumerate(ancestors)]
        )

    return attend


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last L tokens of a sequence of S: q [L, heads, d], k and v [S, kv_heads, d] → [L, heads, d]."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return attend_last(q, k, v)[0].transpose(0, 1)


def attend_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by heads: q [1, heads, L, d], k and v [1, kv_heads, S, d] → [1, heads, L, d].

    A mask that lies in memory is never given beside `enable_gqa`: on a GPU that pair gets the slowest kernel. There
    flash attention makes the mask itself; elsewhere the heads that share keys become more queries.
    """
    rows, columns, device = q.shape[2], k.shape[2], q.device
    if rows == columns:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    if device.type == "cuda":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(rows, columns), enable_gqa=True)
    mask = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    shared = q.shape[1] // k.shape[1]
    grouped = q.reshape(1, k.shape[1], shared * rows, -1)
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask.repeat(shared, 1)).reshape(q.shape)


def attend_last_part(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`attend_last` where k and v are a part of what q sees, with its weights' sums as `attend_part` has them."""
    rows, columns = q.shape[2], k.shape[2]
    grouped = q.reshape(1, k.shape[1], -1, q.shape[-1])
    beyond = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(columns - rows + 1)
    mask = torch.zeros(rows, columns, dtype=q.dtype, device=q.device).masked_fill_(beyond, -torch.inf)
    out, weight = attend_part(grouped, k, v, mask.repeat(q.shape[1] // k.shape[1], 1)[None, None])
    return out.reshape(q.shape), weight.reshape(q.shape[:3])


def attend_part(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention to a part of what a query sees, with the logarithm of its weights' sum; `joined` puts parts together.

    q [B, heads, L, d], k and v [B, heads, S, d], mask (added to the scores, in q's dtype) broadcast to
    [B, heads, L, S] → [B, heads, L, d], and float32 [B, heads, L].
    """
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=mask)
    return by_products(q, k, v, mask)


def by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`attend_part` by matrix products in float32, on any device; at most SCORE_BYTES of scores are held at once."""
    at_once = max(1, SCORE_BYTES // (4 * q.shape[0] * q.shape[1] * k.shape[2]))
    masks = [None] * q.shape[2] if mask is None else mask.expand(-1, -1, q.shape[2], -1).split(at_once, 2)
    keys, values = k.float().transpose(-1, -2), v.float()
    outs, weights = [], []
    for queries, masked in zip(q.split(at_once, 2), masks, strict=mask is not None):
        scores = (queries.float() * q.shape[-1] ** -0.5) @ keys
        if masked is not None:
            scores += masked
        weight = scores.logsumexp(-1)
        outs.append((scores.sub_(weight[..., None]).exp_() @ values).to(q.dtype))
        weights.append(weight)
    return torch.cat(outs, 2), torch.cat(weights, 2)


def attend_prefix(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """All of q [N, heads, d] to the whole of k and v [1, kv_heads, S, d] → [N, heads, d], and float32 [N, heads]."""
    heads = k.shape[1]
    grouped = q.view(len(q), heads, -1, q.shape[-1]).transpose(0, 1).reshape(1, heads, -1, q.shape[-1])
    out, weights = attend_part(grouped, k, v)
    split = (heads, len(q), -1)
    out = out.reshape(*split, q.shape[-1]).transpose(0, 1).reshape(q.shape)
    return out, weights.reshape(split).transpose(0, 1).flatten(1)


def joined(a: Tensor, a_weight: Tensor, b: Tensor, b_weight: Tensor) -> Tensor:
    """Attention [N, heads, d] to two parts together, from each part's own and the logarithms of their weights' sums.

    The rule of flash attention's blocks (Dao et al., 2022): exact, whatever the parts.
    """
    return torch.lerp(a.float(), b.float(), torch.sigmoid(b_weight - a_weight)[..., None]).to(a.dtype)
