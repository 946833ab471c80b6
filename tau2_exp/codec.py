"""Typed dataclasses ↔ plain JSON data, by their annotations. Standard library only."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Reader = Callable[[Any], Any]


def encode(value: Any) -> Any:
    """Plain JSON data of a value; fields that equal their default are left out, so that records stay short."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if not _is_default(f, value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {(k.value if isinstance(k, Enum) else k): encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    return value


def decode(cls: type[T], data: Any) -> T:
    """The value of type `cls` that is written in `data` (from `encode`, or JSON).

    Raises ValueError naming the field that is missing, unknown or of the wrong type.
    """
    try:
        value: T = _reader(typing.cast(Any, cls))(data)
    except _Wrong as wrong:
        raise ValueError(f"{cls.__name__}{wrong.where}: {wrong.what}") from None
    return value


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return False
    current = getattr(value, field.name)
    return type(current) is type(default) and current == default


class _Wrong(Exception):
    """What is wrong; `where` grows from the inside out, so that it costs nothing where all is right."""

    def __init__(self, what: str, where: str = ""):
        self.what, self.where = what, where

    def inside(self, step: str) -> _Wrong:
        return _Wrong(self.what, step + self.where)


@cache
def _reader(cls: Any) -> Reader:
    """What reads values of a type: annotations are looked at once, not for every record."""
    origin, options = typing.get_origin(cls), typing.get_args(cls)
    if cls is Any:
        return lambda data: data
    if origin in (typing.Union, types.UnionType):
        value = _reader(next(option for option in options if option is not type(None)))
        return (lambda data: None if data is None else value(data)) if type(None) in options else value
    if origin in (list, tuple):
        return _read_items(origin, _reader(options[0]))
    if origin is dict:
        return _read_entries(_reader(options[1]))
    if dataclasses.is_dataclass(cls):
        return _read_dataclass(cls)
    return _read_choice(cls) if issubclass(cls, Enum) else _read_plain(cls)


def _read_items(container: Callable[[Iterable[Any]], Any], item: Reader) -> Reader:
    def read(data: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise _Wrong(f"expected a list, got {type(data).__name__}")
        values = []
        for place, value in enumerate(data):
            try:
                values.append(item(value))
            except _Wrong as wrong:
                raise wrong.inside(f"[{place}]") from None
        return container(values)

    return read


def _read_entries(entry: Reader) -> Reader:
    def read(data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise _Wrong(f"expected an object, got {type(data).__name__}")
        values = {}
        for name, value in data.items():
            try:
                values[name] = entry(value)
            except _Wrong as wrong:
                raise wrong.inside(f".{name}") from None
        return values

    return read


def _read_dataclass(cls: Any) -> Reader:
    hints = typing.get_type_hints(cls)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(cls)}

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _Wrong(f"expected an object, got {type(data).__name__}")
        values = {}
        for name, value in data.items():
            if name not in readers:
                unknown = sorted(set(data) - set(readers))[0]
                raise _Wrong(f"unknown field {unknown!r}; known: {', '.join(readers)}")
            try:
                values[name] = readers[name](value)
            except _Wrong as wrong:
                raise wrong.inside(f".{name}") from None
        try:
            return cls(**values)
        except TypeError as error:
            raise _Wrong(str(error)) from None

    return read


def _read_choice(cls: type[Enum]) -> Reader:
    def read(data: Any) -> Any:
        try:
            return cls(data)
        except ValueError:
            valid = ", ".join(str(member.value) for member in cls)
            raise _Wrong(f"{data!r} is not one of {valid}") from None

    return read


def _read_plain(cls: type) -> Reader:
    def read(data: Any) -> Any:
        if cls is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) < 10**308:
            return float(data)
        if not isinstance(data, cls) or (cls is int and isinstance(data, bool)):
            raise _Wrong(f"expected {cls.__name__}, got {data!r}")
        return data

    return read
