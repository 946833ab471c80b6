"""What differs between two states of a database: exactly (as τ²-bench's hash would tell), and leaf by leaf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel

from tau2_exp.domains.tables import Database, Path, Table, canonical, plain

Fingerprint = dict[Path, bytes | None]


def fingerprint(database: Database) -> Fingerprint:
    """What of a database differs from the parsed one, by digest of its canonical text (None: deleted).

    Two databases over one parsed database have equal fingerprints where τ²-bench's hashes are equal.
    """
    found: Fingerprint = {}
    for name, value in vars(database).items():
        if not isinstance(value, Table):
            found[name,] = digest(canonical(value))
            continue
        for key in value.touched():
            if not value.unchanged(key):
                found[name, key] = digest(value.text(key)) if key in value else None
    return found


def digest(text: str) -> bytes:
    """The SHA-256 of a text, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def changes(before: Database, now: Database, prefix: str) -> dict[str, Any]:
    """Leaf path → value now (None: gone), for all that differs between two states of one database."""
    found: dict[str, Any] = {}
    for path, old, new in _candidates(before, now):
        if old != new:
            found |= leaf_changes(plain(old, "json"), plain(new, "json"), ".".join((prefix, *path)))
    return found


def leaf_changes(old: Any, new: Any, path: str) -> dict[str, Any]:
    """Leaf path → new value (None: gone), for all that differs between two pieces of JSON data that lie at `path`."""
    found: dict[str, Any] = {}
    _compare(old, new, path, found)
    return found


def _candidates(before: Database, now: Database) -> Iterator[tuple[Path, Any, Any]]:
    for name, value in vars(now).items():
        first = vars(before)[name]
        if isinstance(value, Table):
            for key in dict.fromkeys([*first.touched(), *value.touched()]):
                old, new = (table.peek(key) if key in table else None for table in (first, value))
                yield (name, key), old, new
        elif isinstance(value, list):
            for old, new in zip_longest(first, value):  # no tool removes or reorders, some append
                yield (name, _identifier(new if new is not None else old)), old, new
        else:
            yield (name,), first, value


def _identifier(record: BaseModel) -> str:
    """A record's first field, which is its identifier in every domain."""
    return str(next(iter(record.__dict__.values())))


def _compare(old: Any, new: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key not in new:
                found[f"{path}.{key}"] = None
            elif key not in old:
                _leaves(new[key], f"{path}.{key}", found)
            else:
                _compare(old[key], new[key], f"{path}.{key}", found)
    elif isinstance(old, list) and isinstance(new, list):
        _compare(_numbered(old), _numbered(new), path, found)
    elif old != new:
        _leaves(new, path, found)


def _leaves(value: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(value, (dict, list)) and value:
        for key, item in (value if isinstance(value, dict) else _numbered(value)).items():
            _leaves(item, f"{path}.{key}", found)
    else:
        found[path] = value


def _numbered(items: list[Any]) -> dict[str, Any]:
    return {str(index): item for index, item in enumerate(items)}
