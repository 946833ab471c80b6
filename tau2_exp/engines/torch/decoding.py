"""The attention of one pass over cached rows: those that decode in buckets, each row that is fed more by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tau2_exp.engines.torch.attention import attend_last, attend_last_part, attend_part, attend_prefix, joined
from tau2_exp.engines.torch.prefix import Prefix
from tau2_exp.engines.torch.slabs import Slabs

if TYPE_CHECKING:
    from tau2_exp.engines.torch.cache import Row

Part = tuple[Tensor, Tensor | None]  # attention [N, heads, d]; where it is to be joined, its weight [N, heads]


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

    def attend(self, q: Tensor, slabs: tuple[Tensor, Tensor], weighed: bool) -> Part:
        """One query token a row: the heads that share keys become the queries, so that nothing is repeated."""
        k, v = (slab[self.low : self.high, :, : self.length] for slab in slabs)
        mine = q[self.first : self.last]
        grouped = mine.view(mine.shape[0], k.shape[1], -1, q.shape[-1])
        if self.places is not None:
            spread = grouped.new_zeros(self.high - self.low, *grouped.shape[1:])
            grouped = spread.index_copy_(0, self.places, grouped)
        if not weighed:
            return self._of(F.scaled_dot_product_attention(grouped, k, v, attn_mask=self.mask)).view(mine.shape), None
        out, weight = attend_part(grouped, k, v, self.mask)
        return self._of(out).reshape(mine.shape), self._of(weight).flatten(1)

    def _of(self, every: Tensor) -> Tensor:
        return every if self.places is None else every[self.places]


@dataclass(frozen=True, slots=True)
class _Piece:
    """The packed tokens [first, last): the last ones of the `length` tokens of a slot."""

    slabs: Slabs
    slot: int
    length: int
    first: int
    last: int
    continues: bool  # a prefix

    def attend(self, layer: int, q: Tensor) -> Part:
        """Causal attention to the slot."""
        k, v = (slab[self.slot : self.slot + 1, :, : self.length] for slab in self.slabs.layers[layer])
        mine = q[self.first : self.last].transpose(0, 1)[None]
        if not self.continues:
            return attend_last(mine, k, v)[0].transpose(0, 1), None
        out, weight = attend_last_part(mine, k, v)
        return out[0].transpose(0, 1), weight[0].T


class Pass:
    """What one pass feeds: (row, count) in `feeds`, of which the first `decoding` decode, in the order of their slots.

    `before` says how many tokens each had cached; a row with fewer than its prefix fills that with the first of those
    that it is fed. `attend` is to be called once for each layer. Rows that decode are attended to in buckets of
    `bucket` slots, up to a multiple of `step` tokens, for which every slot has memory.
    """

    def __init__(
        self,
        slabs: Slabs,
        rows: Sequence[Row],
        feeds: Sequence[tuple[Row, int]],
        before: Sequence[int],
        decoding: int,
        bucket: int,
        step: int,
    ):
        self._slabs, self._step = slabs, step
        self._device = slabs.layers[0][0].device
        self._pieces: list[_Piece] = []
        self._writes: list[tuple[Slabs, Tensor, Tensor | None]] = []  # where the keys of which packed tokens go
        slots: list[int] = []
        positions: list[int] = []
        own: list[int] = []  # the packed tokens that go to the rows' slots
        shared: dict[int, list[int]] = {}
        self._prefixes: dict[int, Prefix] = {}
        start = 0
        for number, ((row, count), known) in enumerate(zip(feeds, before, strict=True)):
            first, end = start + max(0, row.base - known), start + count
            if first > start:
                self._fill(row, start, first)
            if number >= decoding:
                self._pieces.append(_Piece(slabs, row.slot, row.own, first, end, row.prefix is not None))
            slots += [row.slot] * (end - first)
            positions += range(row.own - (end - first), row.own)
            own += range(first, end)
            if row.prefix:
                self._prefixes[id(row.prefix)] = row.prefix
                shared.setdefault(id(row.prefix), []).extend(range(first, end))
            start = end
        self._writes.append((slabs, slabs.targets(slots, positions), self._places(own, start)))
        self._shares = [(self._prefixes[key], self._places(places, start)) for key, places in shared.items()]
        self._buckets = self._in_buckets([row for row, _ in feeds[:decoding]], rows, bucket)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """An `attention.Attend`: q [N, heads, d], k and v [N, kv_heads, d] → [N, heads, d]."""
        for slabs, targets, places in self._writes:
            slabs.write(layer, targets, _at(k, places), _at(v, places))
        weighed = bool(self._shares)
        parts = [bucket.attend(q, self._slabs.layers[layer], weighed) for bucket in self._buckets]
        parts += [piece.attend(layer, q) for piece in self._pieces]
        out = torch.cat([part for part, _ in parts])
        if not weighed:
            return out
        weights = torch.cat([q.new_zeros(p.shape[:2], dtype=torch.float32) if w is None else w for p, w in parts])
        for prefix, places in self._shares:
            theirs = attend_prefix(_at(q, places), *prefix.slabs.layers[layer])
            whole = joined(_at(out, places), _at(weights, places), *theirs)
            out = whole if places is None else out.index_copy_(0, places, whole)
        return out

    def _fill(self, row: Row, first: int, last: int) -> None:
        """The packed tokens [first, last) are those of the row's prefix."""
        assert row.prefix is not None
        slabs, count = row.prefix.slabs, last - first
        places = torch.arange(first, last, device=self._device)
        self._writes.append((slabs, slabs.targets([0] * count, range(count)), places))
        self._pieces.append(_Piece(slabs, 0, count, first, last, False))

    def _places(self, places: Sequence[int], count: int) -> Tensor | None:
        return None if len(places) == count else torch.tensor(places, device=self._device)

    def _in_buckets(self, decodes: Sequence[Row], rows: Sequence[Row], size: int) -> list[_Bucket]:
        """The buckets that hold the rows, which come in the order of their slots."""
        filled = [1] * len(rows)
        for row in decodes:
            filled[row.slot] = row.own
        masks = self._masks(filled)
        buckets: list[_Bucket] = []
        first = 0
        while first < len(decodes):
            low = decodes[first].slot // size * size
            high = min(low + size, len(rows))
            last = first
            while last < len(decodes) and decodes[last].slot < high:
                last += 1
            length = rounded_up(max(filled[low:high]), self._step)
            places = None
            if last - first < high - low:
                places = torch.tensor([row.slot - low for row in decodes[first:last]], device=self._device)
            buckets.append(_Bucket(low, high, length, first, last, places, masks[low:high, :, :, :length]))
            first = last
        return buckets

    def _masks(self, filled: list[int]) -> Tensor:
        """[rows, 1, 1, longest], 0 where a row is filled and -inf beyond."""
        ends = torch.tensor(filled, device=self._device)[:, None]
        longest = rounded_up(max(filled, default=0), self._step)
        beyond = torch.arange(longest, device=self._device) >= ends
        mask = torch.zeros(beyond.shape, device=self._device, dtype=self._slabs.layers[0][0].dtype)
        return mask.masked_fill_(beyond, -torch.inf)[:, None, None]


def _at(values: Tensor, places: Tensor | None) -> Tensor:
    return values if places is None else values[places]


def rounded_up(count: int, step: int) -> int:
    """The least multiple of `step` that is not below `count`."""
    return -(-count // step) * step
