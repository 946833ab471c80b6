"""What a run spends on completions, and the bound on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.jsonl import JsonlWriter, read_jsonl
from tau2_exp.types import BudgetReached, Usage


class Budget:
    """Counts every reply, also of episodes that came to nothing, in a file that outlives a kill.

    `dollars` and `tokens` (prompt and completion) bound the sum; None: no bound. A request is sent only if the sum
    stays within the bound even when it, and all that are in flight, take as much as they can. A sum of dollars that
    cannot be known counts as having reached its bound.
    """

    def __init__(self, path: Path, dollars: float | None, tokens: int | None):
        self._path, self._dollars, self._tokens = path, dollars, tokens
        self._file: JsonlWriter | None = None
        self._in_flight: list[Usage] = []
        self._changed = asyncio.Condition()
        self.spent = sum((decode(Usage, record) for record in read_jsonl(path)), Usage())
        self.refused: Usage | None = None  # the most that the request could have taken which had no room

    @property
    def bounded(self) -> bool:
        return self._dollars is not None or self._tokens is not None

    @asynccontextmanager
    async def reserved(self, most: Usage) -> AsyncIterator[None]:
        """Room for one request, which takes at most `most`. Waits for requests in flight, which mostly take less.

        Raises BudgetReached where there is no room though nothing is in flight.
        """
        async with self._changed:
            while not self._has_room(most):
                if not self._in_flight:
                    self.refused = most
                    raise BudgetReached
                await self._changed.wait()
            self._in_flight.append(most)
        try:
            yield
        finally:
            async with self._changed:
                self._in_flight.remove(most)
                self._changed.notify_all()

    def add(self, usage: Usage) -> None:
        if self._file is None:
            self._file = JsonlWriter(self._path)
        self._file.write(encode(usage))
        self.spent += usage

    def _has_room(self, most: Usage) -> bool:
        total = sum(self._in_flight, self.spent + most)
        if self._tokens is not None and total.prompt_tokens + total.completion_tokens > self._tokens:
            return False
        return self._dollars is None or (total.dollars is not None and total.dollars <= self._dollars)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def spoken(usage: Usage) -> str:
    """An amount in words for a person."""
    dollars = "an unknown sum (its models have no listed price)" if usage.dollars is None else f"${usage.dollars:.4f}"
    return f"{usage.prompt_tokens + usage.completion_tokens:,} tokens, {dollars}"


class PromptBound:
    """The most tokens that a prompt can take: by our own count, and by what the server told of earlier ones.

    Tokenizers differ: the largest ratio of told to counted tokens so far is taken for the next, with a margin.
    """

    UNKNOWN = 1.5  # times our count, until the server has told
    MARGIN = 1.1

    def __init__(self) -> None:
        self._ratio: float | None = None

    def of(self, counted: int) -> int:
        return round(counted * (self.UNKNOWN if self._ratio is None else self._ratio * self.MARGIN))

    def learn(self, counted: int, told: int) -> None:
        self._ratio = max(self._ratio or 0.0, told / counted)
