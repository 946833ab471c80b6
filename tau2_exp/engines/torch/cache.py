"""Keys and values of many growing rows: one slab a layer, rows side by side, attention cut to what is filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tau2_exp.engines.torch.attention import Attend, attend_last
from tau2_exp.engines.torch.shape import ModelShape

CPU_BUCKET = 16  # rows attended to together: enough to pay for the call, few enough to be of like length
LENGTH_STEP = 64
SORT_EVERY = 32  # decode iterations between two orderings of the rows by length


@dataclass(eq=False, slots=True)
class Row:
    """One session's row of the cache. `ids` are the tokens whose keys and values are cached, in order."""

    slot: int
    ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Neighbouring slots [low, high) attended to together, up to `length`."""

    low: int
    high: int
    length: int
    first: int  # the packed tokens [first, last) are theirs
    last: int
    places: Tensor | None  # where in the bucket those tokens' rows are; None: everywhere
    mask: Tensor  # [rows, 1, 1, length], 0 or -inf


class Cache:
    """The slabs [slots, kv_heads, length, head_dim] of keys and of values, for each layer.

    Slots 0..n-1 are in use. Rows are ordered by length now and then, so that neighbours pad each other little.
    """

    def __init__(self, shape: ModelShape, device: torch.device, dtype: torch.dtype):
        self.shape = shape
        self.device = device
        self.dtype = dtype
        self.rows: list[Row] = []
        self._bucket = CPU_BUCKET if device.type == "cpu" else 1 << 30
        self._steps = 0
        self._slots = 0
        self._length = 0
        self._slabs: list[list[Tensor]] = []

    def acquire(self) -> Row:
        """A new, empty row in the next slot."""
        row = Row(len(self.rows))
        self.rows.append(row)
        return row

    @torch.inference_mode()
    def release(self, row: Row) -> None:
        """Free a row; the last row moves into its slot."""
        last = self.rows.pop()
        if last is row:
            return
        filled = len(last.ids)
        if filled:
            for slab in self._all():
                slab[row.slot, :, :filled] = slab[last.slot, :, :filled]
        last.slot = row.slot
        self.rows[row.slot] = last

    @torch.inference_mode()
    def copy(self, source: Row, target: Row, count: int) -> int:
        """Give a new row the first `count` tokens of another; how many it has then."""
        self._reserve(count)
        for slab in self._all():
            slab[target.slot, :, :count] = slab[source.slot, :, :count]
        target.ids[:] = source.ids[:count]
        return count

    def cut(self, row: Row, count: int) -> int:
        """Keep a row's first `count` tokens; how many are kept."""
        del row.ids[count:]
        return count

    def step(self, decodes: Sequence[Row], prefills: Sequence[tuple[Row, int]], ids: Sequence[int]) -> Attend:
        """The attention of one forward pass, which also caches the keys and values of the tokens `ids` that it feeds.

        `ids` has one token for each row of `decodes` (in the order of their slots), then as many for each row of
        `prefills` as its count. The rows' ids grow here; the function returned must then run in every layer.
        """
        counts = [(row, 1) for row in decodes] + list(prefills)
        slots: list[int] = []
        positions: list[int] = []
        start = 0
        for row, count in counts:
            slots += [row.slot] * count
            positions += range(len(row.ids), len(row.ids) + count)
            row.ids += ids[start : start + count]
            start += count
        self._reserve(max(positions) + 1)
        target = self._target(slots, positions)
        buckets = self._buckets(decodes)
        return self._attend(target, buckets, prefills)

    def order(self, active: Sequence[Row]) -> None:
        """Every SORT_EVERY calls, move the active rows to the front, ordered by length."""
        self._steps += 1
        if self._steps % SORT_EVERY or len(self.rows) <= self._bucket:
            return
        busy = {id(row) for row in active}
        self.rows.sort(key=lambda row: (id(row) not in busy, len(row.ids), row.slot))
        index = torch.tensor([row.slot for row in self.rows], device=self.device)
        filled = max(len(row.ids) for row in self.rows)
        for slab in self._all():
            slab[: len(self.rows), :, :filled] = slab[index, :, :filled]
        for slot, row in enumerate(self.rows):
            row.slot = slot

    # ------------------------------------------------------------ memory

    def _all(self) -> list[Tensor]:
        return [slab for pair in self._slabs for slab in pair]

    def _reserve(self, length: int) -> None:
        """Room for every row and for `length` tokens of each. New memory is zero: 0 · garbage could be NaN."""
        if len(self.rows) <= self._slots and length <= self._length:
            return
        old_slots, old_length = self._slots, self._length
        if length > old_length:
            self._length = -(-max(length, old_length * 5 // 4) // LENGTH_STEP) * LENGTH_STEP
        self._slots = max(len(self.rows), old_slots)
        size = (self._slots, self.shape.kv_heads, self._length, self.shape.head_dim)
        for layer in range(self.shape.layers):
            fresh = [torch.zeros(size, device=self.device, dtype=self.dtype) for _ in range(2)]
            if old_slots:
                for new, old in zip(fresh, self._slabs[layer], strict=True):
                    new[:old_slots, :, :old_length] = old
                self._slabs[layer] = fresh
            else:
                self._slabs.append(fresh)

    def _target(self, slots: list[int], positions: list[int]) -> Tensor:
        """Where each (token, head) goes in a slab seen as rows of head_dim."""
        heads = self.shape.kv_heads
        slot, position = torch.tensor([slots, positions], device=self.device)
        head = torch.arange(heads, device=self.device)
        return ((slot[:, None] * heads + head) * self._length + position[:, None]).flatten()

    # ------------------------------------------------------------ attention

    def _buckets(self, decodes: Sequence[Row]) -> list[_Bucket]:
        """The buckets that hold the rows, which come in the order of their slots."""
        filled = [1] * len(self.rows)
        for row in decodes:
            filled[row.slot] = len(row.ids)
        masks = self._masks(filled)
        buckets: list[_Bucket] = []
        first = 0
        while first < len(decodes):
            low = decodes[first].slot // self._bucket * self._bucket
            high = min(low + self._bucket, len(self.rows))
            last = first
            while last < len(decodes) and decodes[last].slot < high:
                last += 1
            length = max(filled[low:high])
            places = None
            if last - first < high - low:
                places = torch.tensor([row.slot - low for row in decodes[first:last]], device=self.device)
            buckets.append(_Bucket(low, high, length, first, last, places, masks[low:high, :, :, :length]))
            first = last
        return buckets

    def _masks(self, filled: list[int]) -> Tensor:
        """[rows, 1, 1, longest], 0 where a row is filled and -inf beyond."""
        ends = torch.tensor(filled, device=self.device)[:, None]
        beyond = torch.arange(max(filled, default=0), device=self.device) >= ends
        mask = torch.zeros(beyond.shape, device=self.device, dtype=self.dtype)
        return mask.masked_fill_(beyond, -torch.inf)[:, None, None]

    def _attend(self, target: Tensor, buckets: Sequence[_Bucket], prefills: Sequence[tuple[Row, int]]) -> Attend:
        head_dim = self.shape.head_dim

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._slabs[layer]
            keys.view(-1, head_dim).index_copy_(0, target, k.reshape(-1, head_dim))
            values.view(-1, head_dim).index_copy_(0, target, v.reshape(-1, head_dim))
            out = [_decode(bucket, q, keys, values) for bucket in buckets]
            start = buckets[-1].last if buckets else 0
            for row, count in prefills:
                out.append(_prefill(row, q[start : start + count], keys, values))
                start += count
            return torch.cat(out)

        return attend


def _decode(bucket: _Bucket, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query token a row: the heads that share keys become the queries, so that nothing is repeated."""
    kv_heads = keys.shape[1]
    mine = q[bucket.first : bucket.last]
    grouped = mine.view(mine.shape[0], kv_heads, -1, q.shape[-1])
    if bucket.places is not None:
        spread = grouped.new_zeros(bucket.high - bucket.low, *grouped.shape[1:])
        grouped = spread.index_copy_(0, bucket.places, grouped)
    k = keys[bucket.low : bucket.high, :, : bucket.length]
    v = values[bucket.low : bucket.high, :, : bucket.length]
    out = F.scaled_dot_product_attention(grouped, k, v, attn_mask=bucket.mask)
    if bucket.places is not None:
        out = out[bucket.places]
    return out.reshape(mine.shape)


def _prefill(row: Row, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    k = keys[row.slot : row.slot + 1, :, : len(row.ids)]
    v = values[row.slot : row.slot + 1, :, : len(row.ids)]
    return attend_last(q.transpose(0, 1)[None], k, v)[0].transpose(0, 1)
