"""What a model of transformers keeps of each session: a cache of transformers' own, stacked while sessions decode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

from tau2_exp.engines.torch.cache import Row
from tau2_exp.engines.torch.prefix import shared_length
from tau2_exp.engines.torch.room import Room

WITH_TOKENS = (DynamicLayer, DummyLayer)  # a row can be cut where all its layers are these
STACKED = (*WITH_TOKENS, LinearAttentionLayer, LinearAttentionAndFullAttentionLayer)


@dataclass(eq=False, slots=True)
class TheirRow(Row):
    """A session's row. Its `cache` is out of date while the row is in a stack."""

    cache: DynamicCache | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """Rows that decode together: one cache of all, each row's keys ending at the right."""

    rows: tuple[TheirRow, ...]
    cache: DynamicCache


class TheirCache:
    """The rows of one model. Where a layer keeps a recurrent state, a row is kept whole or not at all.

    Sliding windows keep every key, so that a row can be cut; the model's masks see to the window.
    """

    def __init__(self, config: Any, dtype: torch.dtype, room: Room):
        self._config = config
        self._rows: list[TheirRow] = []
        self._stack: Stack | None = None
        self._room, self._dtype, self._most = room, dtype, 0

    @property
    def bytes(self) -> int:
        """What it takes."""
        caches = [row.cache for row in self._rows] + ([self._stack.cache] if self._stack else [])
        layers = [layer for cache in caches if cache for layer in cache.layers]
        return sum(value.nbytes for layer in layers for value in vars(layer).values() if isinstance(value, Tensor))

    def held(self, ids: Sequence[int]) -> int:
        """0: what a row would have is known when it is made."""
        return 0

    def has_room(self, ids: Sequence[int]) -> bool:
        """Whether one more row can grow to the longest context beside the others."""
        return len(self._rows) < max(1, self._most)

    def acquire(self, ids: Sequence[int] = (), waiting: Sequence[Sequence[int]] = ()) -> TheirRow:
        """A new row, with a copy of the row that begins most as `ids` do, as far as it can be cut there."""
        if not self._rows:
            self._most = self._room.bytes() // (self._room.longest * self._token_bytes())
        row = TheirRow(len(self._rows), cache=self._fresh())
        shared = [(shared_length(other.ids, list(ids)), other) for other in self._rows]
        count, source = max(shared, key=lambda pair: pair[0], default=(0, row))
        if count:
            self._copy(source, row, count)
        self._rows.append(row)
        return row

    def release(self, row: TheirRow) -> None:
        """Free a row."""
        self.alone(row)
        row.cache = None
        self._rows.remove(row)

    @torch.inference_mode()
    def _copy(self, source: TheirRow, target: TheirRow, count: int) -> None:
        kept = copy.deepcopy(self.alone(source))
        target.ids[:] = source.ids
        target.cache = kept
        self.cut(target, count)

    def _token_bytes(self) -> int:
        """Keys and values of one token, were every layer one of full attention."""
        text = self._config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return int(2 * text.num_hidden_layers * heads * head_dim * self._dtype.itemsize)

    @torch.inference_mode()
    def cut(self, row: TheirRow, count: int) -> int:
        """Keep a row's first `count` tokens; 0, and none, where it cannot be cut there."""
        excess = len(row.ids) - count
        if not excess:
            return count
        cache = self.alone(row)
        if all(type(layer) in WITH_TOKENS for layer in cache.layers):
            cache.crop(-excess)
            del row.ids[count:]
        else:
            row.cache = self._fresh()
            row.ids.clear()
        return len(row.ids)

    def order(self, active: Sequence[Row]) -> None:
        """Nothing: rows are stacked in the order in which they were acquired."""

    def alone(self, row: TheirRow) -> DynamicCache:
        """The row's own cache, taken from the stack where it is in one."""
        if self._stack is not None and row in self._stack.rows:
            self._unstack()
        assert row.cache is not None
        return row.cache

    def together(self, rows: Sequence[TheirRow]) -> DynamicCache | None:
        """One cache of all rows, each padded on the left to the longest; None where their layers cannot be stacked."""
        if self._stack is None or self._stack.rows != tuple(rows):
            self._unstack()
            caches = [self.alone(row) for row in rows]
            if not all(type(layer) in STACKED for layer in caches[0].layers):
                return None
            whole = self._fresh()
            longest = max(len(row.ids) for row in rows)
            whole.layers = [_stacked(parts, longest) for parts in zip(*(c.layers for c in caches), strict=True)]
            self._stack = Stack(tuple(rows), whole)
        return self._stack.cache

    def _unstack(self) -> None:
        if self._stack is None:
            return
        for number, row in enumerate(self._stack.rows):
            assert row.cache is not None
            row.cache.layers = [_part(layer, number, len(row.ids)) for layer in self._stack.cache.layers]
        self._stack = None

    def _fresh(self) -> DynamicCache:
        cache = DynamicCache(config=self._config)
        cache.layers = [DynamicLayer() if type(x) is DynamicSlidingWindowLayer else x for x in cache.layers]
        return cache


def _stacked(parts: Sequence[Any], longest: int) -> Any:
    """One layer of many rows' caches: its keys and values padded on the left, its states as they are."""
    whole = copy.copy(parts[0])
    for name, value in vars(whole).items():
        values = [getattr(part, name) for part in parts]
        if isinstance(value, Tensor):  # keys or values [1, heads, tokens, head_dim]
            setattr(whole, name, torch.cat([F.pad(v, (0, 0, longest - v.shape[-2], 0)) for v in values]))
        elif isinstance(value, dict):  # states by number, or what is known of them
            setattr(whole, name, {key: _rows([v[key] for v in values]) for key in value})
    return whole


def _rows(values: Sequence[Any]) -> Any:
    return torch.cat(list(values)) if isinstance(values[0], Tensor) else values[0]


def _part(layer: Any, number: int, length: int) -> Any:
    """One row's layer of a stack, with the last `length` keys."""
    mine = copy.copy(layer)
    for name, value in vars(mine).items():
        if isinstance(value, Tensor):
            setattr(mine, name, value[number : number + 1, :, value.shape[-2] - length :].clone())
        elif isinstance(value, dict):
            setattr(mine, name, {key: _row(state, number) for key, state in value.items()})
    return mine


def _row(state: Any, number: int) -> Any:
    return state[number : number + 1].clone() if isinstance(state, Tensor) else state
