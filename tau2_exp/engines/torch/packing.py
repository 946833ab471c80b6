"""Rows into micro-batches in which a prefix that several rows share is there once: a forest of prefix trees.

Rows of one group begin alike (the same prompt, often the same first turns). Under a causal mask a token's hidden
state depends on what is before it alone, so that a shared prefix has one forward and, its rows' gradients added,
one backward: the numbers are those of the rows taken one by one, up to the order of sums.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tau2_exp.engines.torch.prefix import common_length
from tau2_exp.types import Row


class Segment(NamedTuple):
    """A chain of tokens between two branchings: those of row `row` from `start` to `end`.

    `ancestors` are the segments, from the root on, that hold the tokens before `start`.
    """

    row: int
    start: int
    end: int
    ancestors: tuple[int, ...]


class Packed:
    """A micro-batch: the distinct tokens of `rows`, segment by segment.

    ids [N]; `lengths` and `ancestors` per segment, as `CausalLM.packed` takes them. Distinct trained tokens: `targets`
    [M], `before` [M] the places whose hidden state predicts them. The rows' trained tokens, row by row: `index` [T]
    says which of the M each is, `log_probs` and `advantages` [T] are each row's own. `rows` as `pack` sorts them.
    """

    def __init__(self, rows: Sequence[Row], device: torch.device):
        segments, paths = prefix_forest([row.ids for row in rows])
        ids = torch.tensor([token for s in segments for token in rows[s.row].ids[s.start : s.end]])
        self.lengths = [s.end - s.start for s in segments]
        self.ancestors = [s.ancestors for s in segments]
        spans = torch.arange(len(ids)).split(self.lengths)
        places = torch.cat([spans[number] for path in paths for number in path])
        trained = torch.tensor([flag for row in rows for flag in row.trained]).nonzero()[:, 0]
        previous = torch.zeros_like(ids)
        previous[places[trained]] = places[trained - 1]
        distinct, index = places[trained].unique(return_inverse=True)
        self.ids = ids.to(device)
        self.targets = ids[distinct].to(device)
        self.before = previous[distinct].to(device)
        self.index = index.to(device)
        self.log_probs = trained_values([row.log_probs for row in rows], trained, device)
        self.advantages = trained_values([row.advantages for row in rows], trained, device)


def pack(rows: Sequence[Row], batch_tokens: int, repeated: float = 0.0) -> list[list[Row]]:
    """Micro-batches that take the memory of at most `batch_tokens` tokens; a longer row makes one of its own.

    A distinct token counts 1. The keys and values of a segment's ancestors are laid before its own for its attention,
    and kept until the backward pass: each token of such a copy counts `repeated` (see `memory.repeated_share`).
    Rows are sorted by their tokens, so that those which share most are neighbours. What follows a row's last trained
    token is cut off: nothing depends on it. Rows with none are left out.
    Raises ValueError where a first token is to be trained, which nothing predicts.
    """
    batches: list[list[Row]] = []
    load = _Load(repeated)
    for row in sorted(cut(rows), key=lambda row: row.ids):
        shared = common_length(batches[-1][-1].ids, row.ids) if batches else 0
        if not batches or load.with_row(shared, len(row.ids)) > batch_tokens:
            batches.append([])
            load, shared = _Load(repeated), 0
        batches[-1].append(row)
        load.add(shared, len(row.ids))
    return batches


class _Load:
    """What a micro-batch takes, in tokens, as sorted rows are added: each shares `shared` tokens with the one before.

    `_ends` are the places where the segments of the last row end, and `tokens` what all rows take.
    """

    def __init__(self, repeated: float):
        self._repeated = repeated
        self._ends: list[int] = []
        self.tokens = 0.0

    def with_row(self, shared: int, length: int) -> float:
        """What the micro-batch would take with one more row."""
        copied = length if 0 < shared < length else 0
        if shared > 0 and shared not in self._ends:  # a segment is cut in two: the second has an ancestor more
            start, end = self._around(shared)
            copied += shared if start else end
        return self.tokens + length - shared + self._repeated * copied

    def add(self, shared: int, length: int) -> None:
        """Add a row."""
        self.tokens = self.with_row(shared, length)
        self._ends = sorted({*(end for end in self._ends if end < shared), shared, length} - {0})

    def _around(self, place: int) -> tuple[int, int]:
        """Where the last row's segment that holds `place` starts and ends."""
        after = bisect_right(self._ends, place)
        return (self._ends[after - 1] if after else 0), self._ends[after]


def prefix_forest(rows: Sequence[Sequence[int]]) -> tuple[list[Segment], list[tuple[int, ...]]]:
    """Sorted rows as segments, ancestors first; and for each row the path of segments that spells it."""
    shared = [0, *(common_length(a, b) for a, b in pairwise(rows))]
    segments: list[Segment] = []
    paths: list[tuple[int, ...]] = [()] * len(rows)
    pending: list[tuple[int, int, int, tuple[int, ...]]] = [(0, len(rows), 0, ())]
    while pending:
        first, last, start, path = pending.pop()
        end = min(shared[first + 1 : last], default=len(rows[first]))
        if end > start:
            segments.append(Segment(first, start, end, path))
            path = (*path, len(segments) - 1)
        forks = [first, *(i for i in range(first + 1, last) if shared[i] == end), last]
        for low, high in pairwise(forks):
            if len(rows[low]) > end:
                pending.append((low, high, end, path))
            else:
                paths[low] = path
    return segments, paths


def cut(rows: Sequence[Row]) -> list[Row]:
    """The rows up to their last trained token; those with none are left out.

    Raises ValueError where a first token is to be trained, which nothing predicts.
    """
    kept = [row for row in map(_cut, rows) if row is not None]
    if any(row.trained[0] for row in kept):
        raise ValueError("a row's first token cannot be trained: nothing predicts it")
    return kept


def _cut(row: Row) -> Row | None:
    end = len(row.trained)
    while end and not row.trained[end - 1]:
        end -= 1
    return Row(row.ids[:end], row.trained[:end], row.log_probs[:end], row.advantages[:end]) if end else None


def trained_values(values: Sequence[Sequence[float]], places: Tensor, device: torch.device) -> Tensor:
    """Those of the rows' values, laid end to end, that are at `places`; float32."""
    return torch.tensor([v for row in values for v in row], dtype=torch.float32)[places].to(device)
