"""The command line's overrides, read once: what cannot be read is named, and text stays text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from antlr4 import InputStream
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer

from tau2_exp.compose.keys import is_text, suggest_key
from tau2_exp.config import ConfigError
from tau2_exp.config.names import NAME_RULE

SEARCHPATH, SWEPT = "hydra.searchpath", "hydra.sweeper.params"


def read(overrides: Sequence[str], sweep: bool = False) -> list[str]:
    """The overrides for Hydra: a value stays as it was typed where the schema wants text.

    Raises ConfigError for the first that has no value, cannot be read, or sets what has no effect here.
    """
    return [_read(text, sweep) for text in overrides]


def swept(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings that `hydra.sweeper.params` on the command line sweeps, with their values as one text each."""
    found: dict[str, Any] = {}
    for text in overrides:
        override, name = parse(text), key_of(text)
        value: Any = override.get_value_string() if override.is_sweep_override() else override.value()
        if name == SWEPT:
            found |= value
        elif name.startswith(f"{SWEPT}."):
            found[name.removeprefix(f"{SWEPT}.")] = value
    return found


def given(overrides: Sequence[str], key: str) -> Any:
    """The value that the last override of `key` gives it, quotes removed; None where there is none."""
    return next((parse(text).value() for text in reversed(overrides) if key_of(text) == key), None)


def key_of(text: str) -> str:
    """The dotted key (or group) of an override."""
    return text.partition("=")[0].lstrip("+~").partition("@")[0]


@cache
def parse(text: str) -> Override:
    """One override by Hydra's grammar. Raises ConfigError where it cannot be read."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(_unreadable(text)) from error


def _read(text: str, sweep: bool) -> str:
    if text.partition("=")[1:] == ("=", ""):
        raise ConfigError(f"{text}: has no value (a shell variable that is not set?); give one, or remove it")
    override = parse(text)
    name = key_of(text)
    if override.is_hydra_override():
        return _hydra(text, name, override, sweep)
    return _as_text(text) if is_text(name) else text


def _hydra(text: str, name: str, override: Override, sweep: bool) -> str:
    if name == SEARCHPATH:
        return f"{SEARCHPATH}=[{','.join(quoted(_folder(text, path)) for path in _paths(override.value()))}]"
    if name == SWEPT or name.startswith(f"{SWEPT}."):
        if not sweep:
            raise ConfigError(f"{text}: is read with -m only; add -m")
        if name == SWEPT and not isinstance(override.value(), dict):
            raise ConfigError(f"{text}: must be settings and their values: '{SWEPT}={{seed:\"0,1\"}}'")
        return text
    raise without_effect(text)


def without_effect(text: str) -> ConfigError:
    """The refusal of a setting that Hydra alone would heed."""
    return ConfigError(
        f"{text}: has no effect here, where runs are not started by Hydra; "
        "name=NAME and outputs=FOLDER say where a run's folder is created"
    )


def _paths(value: Any) -> list[str]:
    return [str(path) for path in (value if isinstance(value, list) else [value])]


def _folder(text: str, path: str) -> str:
    """A folder of the search path. Raises ConfigError where it is not there: Hydra would go on without it."""
    if path.startswith("pkg://"):
        return path
    folder = Path(path.removeprefix("file://"))
    try:
        folder = folder.expanduser()
    except RuntimeError:
        raise ConfigError(f"{text}: no home folder of that name; write the whole path") from None
    if not folder.is_dir():
        raise ConfigError(f"{text}: {path} is no folder")
    return str(folder)


# ---------------------------------------------------------------- what cannot be read


def _unreadable(text: str) -> str:
    shown = text.encode("unicode_escape").decode() if any(ord(letter) < 32 for letter in text) else text
    key, equals, value = text.partition("=")
    name = key_of(text)
    if not equals:
        return f"{shown}: not a setting; write key=value{suggest_key(name)}"
    if key != key.strip() or value != value.strip():
        what = "ends in a carriage return, as lines of Windows files do" if value.endswith("\r") else "has spaces"
        return f"{shown}: {what}; write {key.strip()}={value.strip()}"
    if not re.fullmatch(r"(~|\+{0,2})[\w.$@:/-]+", key, re.ASCII):
        return f"{shown}: {key} is not the name of a setting{suggest_key(name)}"
    if not _parses(f"{key}={quoted(value)}"):
        return f"{shown}: {key} is not the name of a setting{suggest_key(name)}"
    if name == "name":
        return f"{shown}: {NAME_RULE}"
    return f"{shown}: cannot be read; put the value in quotes: {key}={shlex.quote(quoted(value))}"


def _parses(text: str) -> bool:
    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    return True


def quoted(value: str) -> str:
    """A text as Hydra's grammar quotes it."""
    escaped = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', value)
    trailing = len(value) - len(value.rstrip("\\"))
    return f'"{escaped}{chr(92) * trailing}"'


# ---------------------------------------------------------------- text that looks like a number


@dataclass(frozen=True)
class _Token:
    kind: int
    start: int
    stop: int  # exclusive


_WORDS = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)
_ENDS = (
    OverrideLexer.COMMA,
    OverrideLexer.BRACKET_OPEN,
    OverrideLexer.BRACKET_CLOSE,
    OverrideLexer.BRACE_OPEN,
    OverrideLexer.BRACE_CLOSE,
    OverrideLexer.POPEN,
    OverrideLexer.PCLOSE,
)


def _as_text(text: str) -> str:
    """The override with quotes around each value that Hydra would read as a number or as true or false."""
    tokens = list(_value_tokens(text))
    if any(text[token.start : token.stop] == "range" for token in tokens):
        return text
    for token in reversed(list(_alone(tokens))):
        text = f'{text[: token.start]}"{text[token.start : token.stop]}"{text[token.stop :]}'
    return text


def _value_tokens(text: str) -> Iterator[_Token]:
    lexer = OverrideLexer(InputStream(text))
    lexer.removeErrorListeners()
    seen = False
    for token in lexer.getAllTokens():
        if seen:
            yield _Token(token.type, token.start, token.stop + 1)
        seen = seen or token.type == OverrideLexer.EQUAL


def _alone(tokens: Sequence[_Token]) -> Iterator[_Token]:
    """Numbers and truth values that are a whole value, or a whole item of a list or a mapping."""
    braces = 0
    before = True  # at the start of an item
    for place, token in enumerate(tokens):
        braces += (token.kind == OverrideLexer.BRACE_OPEN) - (token.kind == OverrideLexer.BRACE_CLOSE)
        after = tokens[place + 1].kind if place + 1 < len(tokens) else None
        if before and token.kind in _WORDS and (after is None or after in _ENDS):
            yield token
        before = token.kind in _ENDS or (braces > 0 and token.kind == OverrideLexer.COLON)
