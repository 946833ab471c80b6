"""The beginning that contexts share, whose keys and values are computed and stored once for all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.engines.torch.slabs import Slabs

WORTH_SHARING = 32  # tokens: fewer are computed again as fast as they are attended to apart


@dataclass(eq=False, slots=True)
class Prefix:
    """The tokens `ids`, with their keys and values as one slot of `slabs`, and how many rows continue it."""

    ids: list[int]
    slabs: Slabs
    rows: int = 0
    filled: bool = False  # whether the keys and values are there yet


def best_prefix(shared: Sequence[int], held: int) -> int:
    """How many tokens of a new context are best stored once, anew; 0: none, a prefix of `held` tokens being there.

    `shared` says how many tokens the context has in common with each other one. A prefix of n tokens that m others
    share spares m · n tokens; with the one that is there, all m + 1 are spared `held`.
    """
    gains = ((n * m - held * (m + 1), n) for m, n in enumerate(sorted(shared, reverse=True), 1))
    gain, count = max(gains, default=(0, 0))
    return count if gain > 0 else 0


def shared_length(other: Sequence[int], ids: Sequence[int]) -> int:
    """How many tokens of `ids`, but its last, another context begins with too; 0 where sharing them is not worth it."""
    if len(ids) <= WORTH_SHARING or other[:WORTH_SHARING] != ids[:WORTH_SHARING]:
        return 0
    return min(common_length(other, ids), len(ids) - 1)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    longest = min(len(a), len(b))
    # The lengths at which they differ are a range that ends at `longest`: searched by halves, compared in C.
    return bisect_left(range(1, longest + 1), True, key=lambda count: a[:count] != b[:count])
