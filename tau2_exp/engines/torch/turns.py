"""A turn of a session: asked for, then sampled token by token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tau2_exp.engines.torch.cache import Row
from tau2_exp.engines.torch.device import SAMPLING, is_out_of_memory, out_of_memory
from tau2_exp.engines.torch.prefix import common_length
from tau2_exp.types import FaultError, FaultSource, Generation, Sampling

Ends = Callable[[Sequence[int]], bool]  # whether the ids of a turn so far are a whole turn


@dataclass(eq=False, slots=True)
class Request:
    """A turn that waits to join the batch."""

    ids: list[int]
    sampling: Sampling
    draws: list[float]
    future: asyncio.Future[Generation]
    ends: Ends | None

    def known(self, cached: list[int]) -> int:
        """How many tokens of the context the cache holds; at least its last one is left to be fed."""
        limit = min(len(cached), len(self.ids) - 1)
        return limit if cached[:limit] == self.ids[:limit] else common_length(cached, self.ids)

    def begin(self, row: Row) -> Turn:
        """The turn that samples on from the row, which is to be fed what it lacks of the context."""
        return Turn(row, self.ids[len(row.ids) :], self.sampling, self.draws, self.future, self.ends)


@dataclass(eq=False, slots=True)
class Turn:
    """A turn being sampled. `feed` is what the model has not seen yet: the new context, then the last token."""

    row: Row
    feed: list[int]
    sampling: Sampling
    draws: list[float]
    future: asyncio.Future[Generation]
    ends: Ends | None
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    entropy: float | None = None  # of its first token's distribution, where it is asked for


def answer(future: asyncio.Future[Generation], generation: Generation) -> None:
    """Give the asker its turn, if it still waits."""
    if not future.done():
        future.set_result(generation)


def refuse(future: asyncio.Future[Generation], error: Exception) -> None:
    """Give the asker the engine's error, if it still waits: a lack of memory by its name, all else as a fault."""
    if future.done():
        return
    if is_out_of_memory(error):
        future.set_exception(out_of_memory(error, "sampling", SAMPLING))
    else:
        future.set_exception(FaultError(FaultSource.ENGINE, f"{type(error).__name__}: {error}"))
