"""One setting of the schema: its default, its meaning in words, the numbers it takes, and how to list them all."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any

_KEY = "setting"  # in a field's metadata


@dataclass(frozen=True)
class Notes:
    """What the schema says of a setting beside its type and its default."""

    meaning: str
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    is_path: bool = False

    def problem(self, value: float) -> str | None:
        """What is wrong with a number, in words; None where it is valid."""
        if not math.isfinite(value):
            return "must be a finite number"
        if self.above is not None and not value > self.above:
            return f"must be above {bound_text(self.above)}"
        if self.at_least is not None and not value >= self.at_least:
            return f"must be {bound_text(self.at_least)} or more"
        if self.at_most is not None and not value <= self.at_most:
            return f"must be at most {bound_text(self.at_most)}"
        if self.below is not None and not value < self.below:
            return f"must be below {bound_text(self.below)}"
        return None


def bound_text(bound: float) -> str:
    """A bound as it is written: a whole number with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def setting(
    default: Any,
    meaning: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    path: bool = False,
) -> Any:
    """A field of the schema.

    `default` is the value, or a function that makes it (for lists, mappings and sections). `meaning` says in plain
    English what the setting does, in which unit, and what null means. The bounds hold for a number, and for each
    number of a mapping. `path` marks a folder or file, which may begin with ~.
    """
    notes = {_KEY: Notes(meaning, above, at_least, at_most, below, path)}
    if callable(default):
        return field(default_factory=default, metadata=notes)
    return field(default=default, metadata=notes)


@dataclass(frozen=True)
class Setting:
    """A setting by its dotted key."""

    key: str
    type: Any  # its annotation
    default: Any
    notes: Notes

    @property
    def section(self) -> type | None:
        """The dataclass whose settings stand below this one; None for a setting that has a value of its own."""
        return self.type if dataclasses.is_dataclass(self.type) and isinstance(self.type, type) else None

    @property
    def base_type(self) -> Any:
        """The type without null."""
        options = [option for option in typing.get_args(self.type) if option is not type(None)]
        return options[0] if typing.get_origin(self.type) in (typing.Union, UnionType) else self.type


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings of one section of the schema, in its order; keys are relative to the section."""
    return _settings_of(cls)


@cache
def _settings_of(cls: Any) -> tuple[Setting, ...]:
    hints = typing.get_type_hints(cls)
    return tuple(
        Setting(f.name, hints[f.name], _default(f), f.metadata.get(_KEY, Notes(""))) for f in dataclasses.fields(cls)
    )


def walk(cls: type, prefix: str = "") -> Iterator[Setting]:
    """All settings of a section and of those below it, a section before what it holds."""
    for one in settings_of(cls):
        placed = dataclasses.replace(one, key=prefix + one.key)
        yield placed
        if placed.section:
            yield from walk(placed.section, f"{placed.key}.")


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
