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
    """Counts the usage of every reply, also in failed episodes, in a file that survives a kill.

    `dollars` and `tokens` (prompt and completion) bound the sum; None: no bound. A request is sent only if the sum
    stays within the bound even when it, and all that are in flight, use as much as they can. An unknown sum of dollars
    counts as having reached its bound.
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
        """Whether dollars or tokens have a bound."""
        return self._dollars is not None or self._tokens is not None

    @asynccontextmanager
    async def reserved(self, most: Usage) -> AsyncIterator[None]:
        """Reserve room for one request, which uses at most `most`; waits for requests in flight, which mostly use less.

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
        """Record what a reply used, in the file and in `spent`."""
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
        """Close the file; the next `add` opens it again."""
        if self._file:
            self._file.close()
            self._file = None


def spoken(usage: Usage) -> str:
    """An amount of tokens and dollars in words."""
    dollars = "an unknown sum (its models have no listed price)" if usage.dollars is None else f"${usage.dollars:.4f}"
    return f"{usage.prompt_tokens + usage.completion_tokens:,} tokens, {dollars}"


class PromptBound:
    """An upper estimate of a prompt's tokens, from our own count and the server's counts of earlier prompts.

    Tokenizers differ: the largest ratio so far of the server's count to ours is taken for the next prompt, with a
    margin.
    """

    UNKNOWN = 1.5  # times our count, until the server has told
    MARGIN = 1.1

    def __init__(self) -> None:
        self._ratio: float | None = None

    def of(self, counted: int) -> int:
        """The estimate for a prompt of `counted` tokens by our own count."""
        return round(counted * (self.UNKNOWN if self._ratio is None else self._ratio * self.MARGIN))

    def learn(self, counted: int, told: int) -> None:
        """Note that a server counted `told` tokens in a prompt of `counted` tokens by our own count."""
        self._ratio = max(self._ratio or 0.0, told / counted)
