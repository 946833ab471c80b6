"""What a run spends on completions, and the bound on it."""

from __future__ import annotations

from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.jsonl import JsonlWriter, read_jsonl
from tau2_exp.types import Usage


class Budget:
    """Counts every reply, also of episodes that came to nothing, in a file that outlives a kill.

    `dollars` and `tokens` (prompt and completion) bound the sum; None: no bound. A sum of dollars that cannot be known
    counts as having reached its bound.
    """

    def __init__(self, path: Path, dollars: float | None, tokens: int | None):
        self._path, self._dollars, self._tokens = path, dollars, tokens
        self._file: JsonlWriter | None = None
        self.spent = sum((decode(Usage, record) for record in read_jsonl(path)), Usage())

    def add(self, usage: Usage) -> None:
        if self._file is None:
            self._file = JsonlWriter(self._path)
        self._file.write(encode(usage))
        self.spent += usage

    @property
    def reached(self) -> bool:
        spent = self.spent
        if self._tokens is not None and spent.prompt_tokens + spent.completion_tokens >= self._tokens:
            return True
        return self._dollars is not None and (spent.dollars is None or spent.dollars >= self._dollars)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def spoken(usage: Usage) -> str:
    """An amount in words for a person."""
    dollars = "an unknown sum (its models have no listed price)" if usage.dollars is None else f"${usage.dollars:.4f}"
    return f"{dollars} and {usage.prompt_tokens + usage.completion_tokens:,} tokens"
