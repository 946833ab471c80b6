"""Causal attention of packed tokens: of sequences that share prefixes, and of the last tokens of one that is cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

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
