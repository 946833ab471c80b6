"""db_progress: the fraction of the reference path's changes that are made, less the changes that are wrong."""

from __future__ import annotations

from typing import Any


def db_progress(gold: dict[str, Any], now: dict[str, Any]) -> float:
    """Of the leaves that gold changes, the fraction now right, less leaves wrongly changed over the same count.

    Both map leaf paths to values, as `World.changes` does. Clipped to 0..1; where gold changes nothing,
    1 if nothing changed, else 0.
    """
    if not gold:
        return 0.0 if now else 1.0
    right = sum(path in now and now[path] == value for path, value in gold.items())
    wrong = sum(path not in gold or gold[path] != value for path, value in now.items())
    return min(1.0, max(0.0, (right - wrong) / len(gold)))
