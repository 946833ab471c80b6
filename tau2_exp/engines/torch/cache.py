"""Keys and values of many growing rows: what rows begin with alike is stored once, their own tokens side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tau2_exp.engines.torch.attention import Attend
from tau2_exp.engines.torch.decoding import Pass, rounded_up
from tau2_exp.engines.torch.memory import cache_bytes
from tau2_exp.engines.torch.prefix import WORTH_SHARING, Prefix, best_prefix, shared_length
from tau2_exp.engines.torch.room import Room
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.slabs import Slabs

CPU_BUCKET = 16  # rows attended to together: enough to pay for the call, few enough to be of like length
CPU_STEP = 1  # in tokens, of the lengths attended to; a GPU's are LENGTH_STEP, so that shapes repeat from pass to pass
LENGTH_STEP = 64  # in tokens, of a slot's memory
SORT_EVERY = 32  # decode iterations between two orderings of the rows by length


@dataclass(eq=False, slots=True)
class Row:
    """One session's row of the cache. `ids` are the tokens whose keys and values are cached, in order.

    Those of `prefix` lie there, the others in the slot.
    """

    slot: int
    ids: list[int] = field(default_factory=list)
    prefix: Prefix | None = None

    @property
    def base(self) -> int:
        """How many tokens are the prefix's."""
        return len(self.prefix.ids) if self.prefix else 0

    @property
    def own(self) -> int:
        """How many tokens lie in the slot."""
        return max(0, len(self.ids) - self.base)


class Cache:
    """The rows of a model's sessions, bounded by `room`: a row is let in where all can grow to the longest context.

    Slots 0..n-1 are in use. Rows are ordered by length now and then, so that neighbours pad each other little.
    """

    def __init__(self, shape: ModelShape, device: torch.device, dtype: torch.dtype, room: Room):
        self.slabs = Slabs(shape, device, dtype)
        self.rows: list[Row] = []
        self._prefixes: list[Prefix] = []  # that rows continue
        self._new_slabs = lambda: Slabs(shape, device, dtype)
        self._device, self._room = device, room
        self._token_bytes = cache_bytes(shape, dtype.itemsize)
        self._capacity = 0  # tokens; measured when the first row comes
        self._bucket, self._step = (CPU_BUCKET, CPU_STEP) if device.type == "cpu" else (1 << 30, LENGTH_STEP)
        self._steps = 0

    @property
    def bytes(self) -> int:
        """What the tensors take, filled or not."""
        return self.slabs.bytes + sum(prefix.slabs.bytes for prefix in self._prefixes)

    # ------------------------------------------------------------ rows

    def held(self, ids: Sequence[int]) -> int:
        """How many tokens of a new context are cached as a prefix."""
        prefix = self._held(ids)
        return len(prefix.ids) if prefix else 0

    def has_room(self, ids: Sequence[int]) -> bool:
        """Whether one more row, for the context `ids`, can grow to the longest context beside the others."""
        if not self.rows:
            return True
        longest = max(self._most_own(), self._room.longest - self.held(ids))
        prefixes = sum(len(prefix.ids) for prefix in self._prefixes)
        return (len(self.rows) + 1) * longest + prefixes <= self._capacity

    @torch.inference_mode()
    def acquire(self, ids: Sequence[int] = (), waiting: Sequence[Sequence[int]] = ()) -> Row:
        """A new row for the context `ids`, with what is cached of its beginning; at least one token is left to be fed.

        `waiting` are contexts that come next: what this one shares with them, or with rows, becomes a prefix. Where it
        is not cached yet, the row returned is empty, and has to be fed in the next pass, before any other row.
        """
        if not self.rows:
            self._capacity = self._room.bytes() // self._token_bytes
        context = list(ids)
        prefix = self._held(context)
        if len(context) > 2 * (len(prefix.ids) if prefix else WORTH_SHARING):  # else no other can spare as much again
            prefix = self._better(context, prefix, waiting) or prefix
        row = Row(len(self.rows), prefix=prefix)
        self.rows.append(row)
        if prefix:
            row.ids = prefix.ids[:] if prefix.rows or prefix.filled else []
            prefix.rows += 1
            self._copy_own(row, context)
        return row

    @torch.inference_mode()
    def release(self, row: Row) -> None:
        """Free a row; the last row moves into its slot."""
        self._leave(row)
        last = self.rows.pop()
        if last is row:
            return
        if last.own:
            for slab in self.slabs.tensors():
                slab[row.slot, :, : last.own] = slab[last.slot, :, : last.own]
        last.slot = row.slot
        self.rows[row.slot] = last

    def cut(self, row: Row, count: int) -> int:
        """Keep a row's first `count` tokens; how many are kept: none where they end within its prefix."""
        if count < row.base:
            self._leave(row)
            count = 0
        del row.ids[count:]
        return count

    @torch.inference_mode()
    def order(self, active: Sequence[Row]) -> None:
        """Every SORT_EVERY calls, move the active rows to the front, ordered by length."""
        self._steps += 1
        if self._steps % SORT_EVERY or len(self.rows) <= self._bucket:
            return
        self._reserve()
        busy = {id(row) for row in active}
        self.rows.sort(key=lambda row: (id(row) not in busy, row.own, row.slot))
        index = torch.tensor([row.slot for row in self.rows], device=self._device)
        filled = max(row.own for row in self.rows)
        for slab in self.slabs.tensors():
            slab[: len(self.rows), :, :filled] = slab[index, :, :filled]
        for slot, row in enumerate(self.rows):
            row.slot = slot

    def step(self, decodes: Sequence[Row], prefills: Sequence[tuple[Row, int]], ids: Sequence[int]) -> Attend:
        """The attention of one forward pass, which also caches the keys and values of the tokens `ids` that it feeds.

        `ids` has one token for each row of `decodes` (in the order of their slots), then as many for each row of
        `prefills` as its count. The rows' ids grow here; the function returned must then run in every layer.
        """
        feeds = [(row, 1) for row in decodes] + list(prefills)
        before = [len(row.ids) for row, _ in feeds]
        start = 0
        for row, count in feeds:
            row.ids += ids[start : start + count]
            start += count
        self._reserve()
        for row, _ in feeds:
            if row.prefix:
                row.prefix.filled = True
        return Pass(self.slabs, self.rows, feeds, before, len(decodes), self._bucket, self._step).attend

    # ------------------------------------------------------------ prefixes

    def _held(self, ids: Sequence[int]) -> Prefix | None:
        """The longest prefix that `ids` begins with and goes on after."""
        found = [p for p in self._prefixes if len(p.ids) < len(ids) and p.ids == ids[: len(p.ids)]]
        return max(found, key=lambda prefix: len(prefix.ids), default=None)

    def _better(self, ids: list[int], held: Prefix | None, waiting: Sequence[Sequence[int]]) -> Prefix | None:
        """A new prefix of `ids`, where that spares more than `held`."""
        shared = [shared_length(row.ids, ids) for row in self.rows]
        coming = [shared_length(other, ids) for other in waiting]
        count = best_prefix([*shared, *coming], len(held.ids) if held else 0)
        if not count:
            return None
        prefix = Prefix(ids[:count], self._new_slabs())
        prefix.slabs.resize(1, count, 0)
        self._prefixes.append(prefix)
        for row, common in zip(self.rows, shared, strict=True):
            if common >= count and (row.prefix is None or row.prefix.filled):
                self._lift(row, prefix)
        return prefix

    def _lift(self, row: Row, prefix: Prefix) -> None:
        """Fill a prefix with the beginning of a row; a row without one continues it from now on."""
        count = len(prefix.ids)
        base = min(row.base, count)
        self._reserve()  # a row that has just joined has a slot beyond the slabs, until it is fed
        for layer, pair in enumerate(prefix.slabs.layers):
            for side, target in enumerate(pair):
                slab = self.slabs.layers[layer][side][row.slot]
                target[0, :, base:] = slab[:, : count - base]
                if row.prefix:
                    target[0, :, :base] = row.prefix.slabs.layers[layer][side][0, :, :base]
                else:
                    slab[:, : row.own - count] = slab[:, count : row.own].clone()
        prefix.filled = True
        if not row.prefix:
            row.prefix = prefix
            prefix.rows += 1

    def _leave(self, row: Row) -> None:
        """The row continues no prefix any more; what no row continues is dropped."""
        if row.prefix:
            row.prefix.rows -= 1
            if not row.prefix.rows:
                self._prefixes.remove(row.prefix)
            row.prefix = None

    def _copy_own(self, row: Row, ids: Sequence[int]) -> None:
        """Give a new row what another of its prefix has of the context `ids` beyond that."""
        beyond = ids[row.base :]
        found = [
            (shared_length(other.ids[row.base :], beyond), other)
            for other in self.rows
            if other is not row and other.prefix is row.prefix
        ]
        count, source = max(found, key=lambda pair: pair[0], default=(0, row))
        if row.ids and count:
            self._reserve(count)
            for slab in self.slabs.tensors():
                slab[row.slot, :, :count] = slab[source.slot, :, :count]
            row.ids += beyond[:count]

    # ------------------------------------------------------------ memory

    def _most_own(self) -> int:
        """The most tokens of its own that a row can come to have."""
        without = len(self.rows) - sum(prefix.rows for prefix in self._prefixes)
        base = 0 if without else min((len(prefix.ids) for prefix in self._prefixes), default=0)
        return self._room.longest - base

    def _reserve(self, length: int = 0) -> None:
        """Room for every row and its tokens, and for `length` of each; more than that where memory allows."""
        slots, longest = len(self.rows), max([length, *(row.own for row in self.rows)])
        if slots <= self.slabs.slots and longest <= self.slabs.length:
            return
        most = self._most_own()
        if slots > self.slabs.slots:
            slots = max(slots, min(2 * self.slabs.slots, self._capacity // max(1, most)))
        filled = min(longest, self.slabs.length)
        longest = max(longest, min(longest * 5 // 4, most))
        self.slabs.resize(max(slots, self.slabs.slots), rounded_up(longest, LENGTH_STEP), filled)
