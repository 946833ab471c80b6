"""Copy-on-write databases: many worlds share one parsed database, and each can say what it changed.

A table copies a record when it is first read by key; iterating only looks. So whoever iterates must not
write to what it sees (no tool of τ²-bench does).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from pydantic import BaseModel

_ATOMS = frozenset({str, int, float, bool, type(None)})
Path = tuple[str, ...]


def clone(value: Any) -> Any:
    """A deep copy of models, lists and dicts. Everything else in these databases is immutable (enums, dates)."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return [clone(item) for item in value]
    if kind is dict:
        return {key: clone(item) for key, item in value.items()}
    if not isinstance(value, BaseModel):
        return value
    copy = value.model_copy()
    fields = copy.__dict__
    for name, item in fields.items():
        if type(item) not in _ATOMS:
            fields[name] = clone(item)
    return copy


def twin(value: Any, known: dict[int, Any]) -> Any:
    """As `clone`, but what is one object in several places stays one: `known` has the copies so far, by identity.

    A tool of telecom's stores an object that the toolkit keeps too, and another then writes to it.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in known:
        return known[id(value)]
    if kind is list:
        copy: Any = []
        known[id(value)] = copy
        copy.extend(twin(item, known) for item in value)
    elif kind is dict:
        copy = known[id(value)] = {}
        copy.update((key, twin(item, known)) for key, item in value.items())
    elif isinstance(value, BaseModel):
        copy = known[id(value)] = value.model_copy()
        for name, item in copy.__dict__.items():
            copy.__dict__[name] = twin(item, known)
    elif isinstance(value, (Table, Database)):
        copy = known[id(value)] = value.copy(known)
    else:
        return value
    return copy


def plain(value: Any, mode: str = "python") -> Any:
    """`model_dump` through lists and dicts; values that a tool stored unvalidated are dumped as they are."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode=mode, warnings=False)
    if isinstance(value, list):
        return [plain(item, mode) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, mode) for key, item in value.items()}
    return value


def canonical(value: Any) -> str:
    """The text that τ²-bench hashes. 1 and 1.0 differ in it, though they are equal by `==`."""
    return json.dumps(plain(value), sort_keys=True, default=str)


class Records(dict[str, Any]):
    """A parsed table that is never written to; it caches the canonical text of its records."""

    __slots__ = ("_texts",)

    def __init__(self, records: dict[str, Any]):
        super().__init__(records)
        self._texts: dict[str, str] = {}

    def text(self, key: str) -> str:
        """The canonical text of one record. Raises KeyError where there is none."""
        if key not in self._texts:
            self._texts[key] = canonical(self[key])
        return self._texts[key]


class Table(MutableMapping[str, Any]):
    """A dict of records over a shared one; keeps a plain dict's key order under every change."""

    __slots__ = ("_base", "_keys", "_own")

    def __init__(self, base: Records):
        self._base = base
        self._own: dict[str, Any] = {}  # records read by key or written
        self._keys: dict[str, None] | None = None  # the order, once it differs from the base's

    def __getitem__(self, key: str) -> Any:
        if key in self._own:
            return self._own[key]
        if key not in self:
            raise KeyError(key)
        self._own[key] = clone(self._base[key])
        return self._own[key]

    def __setitem__(self, key: str, record: Any) -> None:
        if key not in self:
            self._order()[key] = None
        self._own[key] = record

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        del self._order()[key]
        self._own.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in (self._base if self._keys is None else self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base if self._keys is None else self._keys)

    def __len__(self) -> int:
        return len(self._base if self._keys is None else self._keys)

    def peek(self, key: str) -> Any:
        """The record as it stands, not to be written to."""
        return self._own[key] if key in self._own else self._base[key]

    def items(self) -> ItemsView[str, Any]:
        """The keys with their records, which are not copied and must not be written to."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """The records, which are not copied and must not be written to."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (dict, MutableMapping)) and dict(self.items()) == dict(other.items())

    def _order(self) -> dict[str, None]:
        if self._keys is None:
            self._keys = dict.fromkeys(self._base)
        return self._keys

    def copy(self, known: dict[int, Any] | None = None) -> Table:
        """An independent table over the same base; `known` is that of `twin`."""
        other = Table(self._base)
        other._own = twin(self._own, {} if known is None else known)
        other._keys = None if self._keys is None else dict(self._keys)
        return other

    def touched(self) -> Iterator[str]:
        """The keys of all records that may differ from the base's."""
        yield from self._own
        if self._keys is not None:
            yield from self._base.keys() - self._keys.keys() - self._own.keys()

    def unchanged(self, key: str) -> bool:
        """Whether a record equals the base's exactly; 1 and 1.0 differ."""
        return key in self and key in self._base and self.text(key) == self._base.text(key)

    def text(self, key: str | None = None) -> str:
        """The canonical text of a record, or of the whole table."""
        if key is not None:
            return canonical(self._own[key]) if key in self._own else self._base.text(key)
        return "{" + ", ".join(f"{json.dumps(key)}: {self.text(key)}" for key in sorted(self)) + "}"


class _Items(ItemsView[str, Any]):
    def __iter__(self) -> Iterator[tuple[str, Any]]:
        table: Table = self._mapping  # type: ignore[attr-defined]
        return ((key, table.peek(key)) for key in table)


class _Values(ValuesView[Any]):
    def __iter__(self) -> Iterator[Any]:
        table: Table = self._mapping  # type: ignore[attr-defined]
        return (table.peek(key) for key in table)


class Database:
    """One world's database: the parsed one's dicts become tables, the (small) rest is copied.

    Has the fields of the parsed model as attributes, as tools expect.
    """

    def __init__(self, fields: dict[str, Any]):
        self.__dict__.update(fields)

    @classmethod
    def over(cls, base: BaseModel) -> Database:
        """A world's database over a parsed one whose tables `set_apart` has made Records."""
        fields = base.__dict__.items()
        return cls({name: Table(value) if isinstance(value, Records) else clone(value) for name, value in fields})

    def copy(self, known: dict[int, Any] | None = None) -> Database:
        """An independent database over the same parsed one; `known` is that of `twin`."""
        known = {} if known is None else known
        return Database({name: twin(value, known) for name, value in self.__dict__.items()})

    def contents(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            name: {key: plain(record) for key, record in value.items()} if isinstance(value, Table) else plain(value)
            for name, value in self.__dict__.items()
        }

    def text(self) -> str:
        """The canonical text of everything, the same that `canonical(self.contents())` gives, but faster."""
        texts = {
            name: value.text() if isinstance(value, Table) else canonical(value) for name, value in vars(self).items()
        }
        return "{" + ", ".join(f"{json.dumps(name)}: {texts[name]}" for name in sorted(texts)) + "}"

    def hash(self) -> str:
        """τ²-bench's own hash of the whole database: reads everything, for tests and reports."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def set_apart(base: BaseModel) -> None:
    """Make a parsed database's dicts into Records, which worlds can share."""
    for name, value in base.__dict__.items():
        if isinstance(value, dict):
            base.__dict__[name] = Records(value)
