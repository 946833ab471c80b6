"""Rows of the generator's cache for requests without a session: a request gets the row that holds its context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tau2_exp.engines.torch.generation import TorchGenerator


@dataclass(frozen=True, slots=True)
class Slot:
    """The session of one request, and how much of its context is cached."""

    session: int
    cached: int  # tokens of the request's context that need not be computed


class CacheSlots:
    """At most `limit` rows of the cache, in use or kept for later; a request waits while all are in use.

    A turn sends its episode's whole context again, so the previous turn's row holds a beginning of it. An episode's
    first turn shares its prompt with others, and continues that. The row unused for the longest time is freed first.
    """

    def __init__(self, generator: TorchGenerator, limit: int):
        self._generator = generator
        self._limit = limit
        self._places = asyncio.Semaphore(limit)
        self._idle: dict[int, None] = {}  # in the order in which they were left
        self._taken: set[int] = set()
        self._next = 0

    @asynccontextmanager
    async def take(self, ids: Sequence[int]) -> AsyncIterator[Slot]:
        """A session for a request with the context `ids`, in use until the block ends."""
        async with self._places:
            slot = self._find(list(ids))
            self._taken.add(slot.session)
            try:
                yield slot
            finally:
                self._taken.remove(slot.session)
                self._idle[slot.session] = None
                if self._generator.crowded:
                    self._free_oldest()

    def forget(self) -> None:
        """Close all rows. No row may be in use."""
        for session in self._idle:
            self._generator.close(session)
        self._idle.clear()

    def _find(self, ids: list[int]) -> Slot:
        cached, session = max(((self._continues(session, ids), session) for session in self._idle), default=(0, -1))
        if not cached:
            return self._fresh(ids)
        del self._idle[session]
        return Slot(session, cached)

    def _continues(self, session: int, ids: list[int]) -> int:
        """How many tokens a row holds, if `ids` begins with all of them and goes on; else 0."""
        cached = self._generator.cached(session)
        count = len(cached)
        whole = 0 < count < len(ids) and cached[-1] == ids[count - 1] and cached == ids[:count]
        return count if whole else 0

    def _fresh(self, ids: list[int]) -> Slot:
        session, self._next = self._next, self._next + 1
        self._generator.open(session)
        while self._idle and not self._generator.has_room(ids):
            self._free_oldest()
        cached = self._generator.begin(session, ids) if self._generator.has_room(ids) else 0
        if len(self._idle) + len(self._taken) >= self._limit:
            self._free_oldest()
        return Slot(session, cached)

    def _free_oldest(self) -> None:
        oldest = next(iter(self._idle))
        del self._idle[oldest]
        self._generator.close(oldest)
