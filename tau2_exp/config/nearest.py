"""What a mistyped word was meant to be: only what is nearest to it, or nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.6  # difflib's ratio, from which two words count as close
_SLIP = 0.9  # from which one is a slip of the other
_PREFIX = 3  # letters, from which a word may be the beginning of another
_SHOWN = 4


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words that are nearest to `word`, several where they are equally near; empty where nothing is near.

    Words that begin with `word` come first, by difflib's ratio; then those that difflib finds close.
    """
    words = list(dict.fromkeys(known))
    begun = [one for one in words if len(word) >= _PREFIX and one.startswith(word)]
    ratios = {one: _ratio(word, one) for one in begun or words}
    best = max(ratios.values(), default=0.0)
    return [one for one, ratio in ratios.items() if ratio == best and (begun or ratio >= _CLOSE)]


def slips(word: str, known: Iterable[str]) -> list[str]:
    """The known words that `word` differs from by a slip or two, the nearest alone."""
    ratios = {one: _ratio(word, one) for one in known}
    best = max(ratios.values(), default=0.0)
    return [one for one, ratio in ratios.items() if ratio == best >= _SLIP]


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` where something close is known."""
    return did_you_mean(nearest(word, known))


def did_you_mean(words: Iterable[str]) -> str:
    """`; did you mean …?` with the first few words; empty where there are none."""
    shown = list(words)[:_SHOWN]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""


def _ratio(word: str, known: str) -> float:
    return difflib.SequenceMatcher(None, known, word, autojunk=False).ratio()
