"""The engine's calls of attention, with the shapes and masks that it really gives torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from benchmarks.gpu_check.sizes import Sizes
from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch import attention as attention_module
from tau2_exp.engines.torch import decoding as decoding_module
from tau2_exp.engines.torch.attention import causal_attention
from tau2_exp.engines.torch.cache import Cache, Row
from tau2_exp.engines.torch.room import Room
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.slabs import Slabs

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Site:
    """One call site at one length.

    `whole` is the engine's own function there, `others` are ways to write the same attention: all give
    [tokens, heads, head_dim].
    """

    name: str
    shape: str  # of the queries and keys, for a person
    whole: Call
    others: dict[str, Call]
    leaves: tuple[Tensor, ...] = ()  # with a gradient, where the site is trained through


KINDS = ("continued turn", "decode", "decode after a shared prefix", "training branch", "training root", "prefill")


def site(kind: str, shape: ModelShape, sessions: int, size: Sizes, device: str, extra: int = 0) -> Site:
    """The site `kind` for a model of this shape; `extra` tokens make its length one not seen before."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if kind == "training root":
        return _training(kind, shape, size.prefix + extra, 0, device, dtype)
    if kind == "training branch":
        return _training(kind, shape, size.branch + extra, size.prefix, device, dtype)
    length = size.context - 64 + extra
    if kind.startswith("decode"):
        shared = size.prefix if "prefix" in kind else 0
        return _decode(kind, shape, sessions, length, shared, device, dtype)
    return _prefill(kind, shape, length, size.heard if kind == "continued turn" else length, device, dtype)


def _training(kind: str, shape: ModelShape, rows: int, before: int, device: str, dtype: torch.dtype) -> Site:
    def random(tokens: int, heads: int) -> Tensor:
        return torch.randn(tokens, heads, shape.head_dim, device=device, dtype=dtype, requires_grad=True)

    q, k, v = random(rows, shape.heads), random(before + rows, shape.kv_heads), random(before + rows, shape.kv_heads)

    def whole() -> Tensor:
        return causal_attention(q, k, v)

    others = _causal(*(x.transpose(0, 1)[None] for x in (q, k, v)))
    return Site(kind, f"{rows} of {before + rows}", whole, others, (q, k, v))


def _prefill(kind: str, shape: ModelShape, length: int, fed: int, device: str, dtype: torch.dtype) -> Site:
    """A row whose first `length` − `fed` tokens are cached takes `fed` more."""
    cache = _cache(shape, device, dtype)
    row = cache.acquire()
    if fed < length:
        cache.step([], [(row, length - fed)], [0] * (length - fed))
        _fill(cache.slabs)
    attend = cache.step([], [(row, fed)], [0] * fed)
    q, k, v = _fed(shape, fed, device, dtype)

    def whole() -> Tensor:
        return attend(0, q, k, v)

    keys, values = (slab[row.slot : row.slot + 1, :, :length] for slab in cache.slabs.layers[0])
    others = _causal(q.transpose(0, 1)[None], keys, values)
    return Site(kind, f"{fed} of {length}", whole, others)


def _decode(
    kind: str, shape: ModelShape, sessions: int, length: int, shared: int, device: str, dtype: torch.dtype
) -> Site:
    """Rows of unlike lengths, up to `length`, take one token each; they begin with the same `shared` tokens."""
    cache = _cache(shape, device, dtype)
    held = [length - 1 - number % min(32, (length - shared) // 2) for number in range(sessions)]
    contexts = [[0] * shared + [number + 1] * (count - shared) for number, count in enumerate(held)]
    rows = [cache.acquire(ids if shared else [], contexts[number + 1 :]) for number, ids in enumerate(contexts)]
    feeds = [(row, count - len(row.ids)) for row, count in zip(rows, held, strict=True)]
    cache.step([], feeds, [0] * sum(count for _, count in feeds))
    _fill(cache.slabs)
    if shared:
        _fill(rows[0].prefix.slabs)
    attend = cache.step(rows, [], [0] * sessions)
    q, k, v = _fed(shape, sessions, device, dtype)

    def whole() -> Tensor:
        return attend(0, q, k, v)

    whole()
    longest = max(held) + 1
    keys, values = (_laid_out(cache, rows, side, longest) for side in range(2))
    ends = torch.tensor(held, device=device)[:, None] + 1
    mask = (torch.arange(longest, device=device) < ends)[:, None, None]
    others = _masked(q[:, :, None], keys, values, mask)
    return Site(kind, f"{sessions} × 1 of {longest}", whole, others)


def _cache(shape: ModelShape, device: str, dtype: torch.dtype) -> Cache:
    """A cache of one layer."""
    place = torch.device(device)
    return Cache(dataclasses.replace(shape, layers=1), place, dtype, Room(EngineConfig(), place, shape.context))


def _laid_out(cache: Cache, rows: list[Row], side: int, longest: int) -> Tensor:
    """The keys (0) or values (1) of all rows as one tensor, [rows, kv_heads, longest, head_dim]."""
    own = cache.slabs.layers[0][side][: len(rows)]
    prefix = rows[0].prefix
    if prefix is None:
        return own[:, :, :longest]
    first = prefix.slabs.layers[0][side].expand(len(rows), -1, -1, -1)
    return torch.cat((first, own), 2)[:, :, :longest]


def _fed(shape: ModelShape, tokens: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    return [torch.randn(tokens, count, shape.head_dim, device=device, dtype=dtype) for count in heads]


def _fill(slabs: Slabs) -> None:
    """Random keys and values: zeros can run faster than real ones."""
    for slab in slabs.layers[0]:
        slab.normal_()


def _causal(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Call]:
    """Ways to write causal attention of the last L of S tokens.

    q [1, heads, L, d], k and v [1, kv_heads, S, d] → [L, heads, d].
    """
    rows, columns, ratio = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]

    def call(repeated: bool, **given: Any) -> Tensor:
        if repeated:
            keys, values = k.repeat_interleave(ratio, 1), v.repeat_interleave(ratio, 1)
            out = F.scaled_dot_product_attention(q, keys, values, **given)
        else:
            out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **given)
        return out[0].transpose(0, 1)

    if rows == columns:
        masks: dict[str, dict[str, Any]] = {"causal": {"is_causal": True}}
    else:
        mask = torch.ones(rows, columns, device=q.device, dtype=torch.bool).tril_(columns - rows)
        masks = {"lower right": {"attn_mask": causal_lower_right(rows, columns)}, "mask": {"attn_mask": mask}}
    heads = {"shared heads": False, "repeated heads": True}
    return {f"{a}, {b}": partial(call, heads[b], **masks[a]) for a in masks for b in heads}


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> dict[str, Call]:
    """Ways to write one query a row: [B, heads, 1, d] by [B, kv_heads, S, d], mask [B, 1, 1, S] → [B, heads, d]."""
    ratio = q.shape[1] // k.shape[1]
    grouped = q.view(q.shape[0], k.shape[1], ratio, q.shape[-1])

    def repeated() -> Tensor:
        return F.scaled_dot_product_attention(q, k.repeat_interleave(ratio, 1), v.repeat_interleave(ratio, 1), mask)

    calls: dict[str, Call] = {
        "mask, heads as queries": lambda: F.scaled_dot_product_attention(grouped, k, v, mask),
        "mask, shared heads": lambda: F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True),
        "mask, repeated heads": repeated,
    }
    return {name: lambda work=work: work().reshape(q.shape[0], q.shape[1], -1) for name, work in calls.items()}


def replayed(whole: Call) -> Call:
    """The calls of torch's attention that `whole` makes, alone; `whole` itself where it makes none."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    heard = _Heard(calls)
    with patch.object(attention_module, "F", heard), patch.object(decoding_module, "F", heard):
        whole()
    if not calls:
        return whole

    def replay() -> Tensor:
        outs = [F.scaled_dot_product_attention(*given, **named) for given, named in calls]
        return outs[0] if len(outs) == 1 else torch.cat([out.flatten() for out in outs])

    return replay


class _Heard:
    """torch.nn.functional, which notes the arguments of its attention.

    It stands in the engine's modules, not in torch's: torch compares the function itself with its own.
    """

    def __init__(self, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]):
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    def scaled_dot_product_attention(self, *given: Any, **named: Any) -> Tensor:
        self._calls.append((given, named))
        return F.scaled_dot_product_attention(*given, **named)
