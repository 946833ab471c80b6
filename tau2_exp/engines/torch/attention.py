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
    masks: dict[int, Tensor | None] = {}  # of the segments with ancestors: one for all layers, kept until the way back

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys, values = q.split(sizes), k.split(sizes), v.split(sizes)
        outs = []
        for number, path in enumerate(ancestors):
            mine = queries[number], keys[number], values[number]
            if path:
                before = ([parts[place] for place in path] for parts in (keys, values))
                mine = mine[0], *(torch.cat([*a, b]) for a, b in zip(before, mine[1:], strict=True))
                if number not in masks:
                    masks[number] = last_mask(*mine[:2])
            outs.append(causal_attention(*mine, masks.get(number)))
        return torch.cat(outs)

    return attend


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The last L tokens of a sequence of S: q [L, heads, d], k and v [S, kv_heads, d] → [L, heads, d].

    `mask` is `last_mask`'s, where it is made already.
    """
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return attend_last(q, k, v, mask)[0].transpose(0, 1)


def last_mask(q: Tensor, k: Tensor) -> Tensor | None:
    """0 where a query sees a key and -inf elsewhere: [heads / kv_heads · L, S]; None on a GPU, where none is needed."""
    if q.device.type == "cuda":
        return None
    return _lower_right(len(q), len(k), q).repeat(q.shape[1] // k.shape[1], 1)


def attend_last(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same by heads: q [1, heads, L, d], k and v [1, kv_heads, S, d] → [1, heads, L, d].

    A mask that lies in memory is never given beside `enable_gqa`: on a GPU that pair gets the slowest kernel. There
    flash attention makes the mask itself; elsewhere the heads that share keys become more queries.
    """
    rows, columns = q.shape[2], k.shape[2]
    if rows == columns:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    if q.device.type == "cuda":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(rows, columns), enable_gqa=True)
    if mask is None:
        mask = _lower_right(rows, columns, q).repeat(q.shape[1] // k.shape[1], 1)
    grouped = q.reshape(1, k.shape[1], -1, q.shape[-1])
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(q.shape)


def _lower_right(rows: int, columns: int, like: Tensor) -> Tensor:
    """[rows, columns], 0 where the last `rows` of a sequence see its `columns` tokens, -inf elsewhere."""
    mask = torch.full((rows, columns), -torch.inf, device=like.device, dtype=like.dtype)
    return mask.triu_(columns - rows + 1)


def attend_last_part(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`attend_last` where k and v are a part of what q sees, with its weights' sums as `attend_part` has them."""
    grouped = q.reshape(1, k.shape[1], -1, q.shape[-1])
    mask = _lower_right(q.shape[2], k.shape[2], q).repeat(q.shape[1] // k.shape[1], 1)
    out, weight = attend_part(grouped, k, v, mask[None, None])
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
