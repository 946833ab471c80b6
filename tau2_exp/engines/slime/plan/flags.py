"""The flags that slime, its Megatron and its SGLang accept, and values written for them.

slime drops a flag that it does not know without a word, and one of a wrong type ends the job after minutes. So each is
looked up here before it is written. flags.json holds what slime's own parsers say, at the commit that it names.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tau2_exp.config import ConfigError

FACTS = Path(__file__).with_name("flags.json")
PARSERS = ("slime", "megatron", "sglang")
SECRET = re.compile(r"(api-keys?|password|wandb-key)$")


@dataclass(frozen=True)
class Flag:
    """One flag, without its dashes. `nargs` is argparse's; a `switch` takes no value."""

    name: str
    parser: str  # slime, megatron or sglang
    kind: str  # argparse's type by its name, or switch
    nargs: str = ""
    choices: tuple[str, ...] = ()


@cache
def known_flags() -> dict[str, Flag]:
    """Every flag that slime, its Megatron and its SGLang accept, by name without dashes."""
    facts = json.loads(FACTS.read_text())
    return {name: _flag(name, parser, said) for parser in PARSERS for name, said in facts[parser].items()}


def _flag(name: str, parser: str, said: str | list[Any]) -> Flag:
    kind, *choices = [said] if isinstance(said, str) else said
    kind, _, nargs = kind.partition(" ")
    return Flag(name, parser, kind, nargs, tuple(map(str, choices)))


def find_flag(name: str, given: str) -> Flag:
    """The flag of this name. Raises ConfigError, beginning with `given`, where slime has no such flag."""
    if flag := known_flags().get(name):
        return flag
    close = difflib.get_close_matches(name.lstrip("-").replace("_", "-"), list(known_flags()), n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"{given}: slime has no flag --{name.lstrip('-')}, and would ignore it silently{meant}")


def write_flag(name: str, value: Any, given: str) -> list[str]:
    """The flag and its value as argv. A switch must be true; false and None write nothing.

    Raises ConfigError, beginning with `given`, for an unknown flag, a value of another type, one that is not among
    the choices, and a secret.
    """
    flag = find_flag(name, given)
    if value is None or (flag.kind == "switch" and value is False):
        return []
    if flag.kind == "switch":
        if value is not True:
            raise ConfigError(f"{given}: is a switch; write true, or leave it out")
        return [f"--{name}"]
    if SECRET.search(name):
        raise ConfigError(f"{given.partition('=')[0]}: holds a secret, which settings never do; leave it out")
    many = flag.nargs not in ("", "?")
    values = list(value) if many and isinstance(value, (list, tuple)) else [value]
    if flag.nargs.isdigit() and len(values) != int(flag.nargs):
        raise ConfigError(f"{given}: takes {flag.nargs} values, not {len(values)}")
    if flag.nargs == "+" and not values:
        raise ConfigError(f"{given}: takes one value or more")
    words = [_word(flag, one, given) for one in values]
    if many or not re.match(r"-(?!\d)", words[0]):
        return [f"--{name}", *words]
    return [f"--{name}={words[0]}"]


def write_flags(flags: Mapping[str, Any]) -> list[str]:
    """Several flags and their values as argv. Raises ConfigError as `write_flag` does."""
    return [word for name, value in flags.items() for word in write_flag(name, value, f"--{name}={value}")]


def _word(flag: Flag, value: Any, given: str) -> str:
    """One value as its type is written."""
    wanted, writer = KINDS.get(flag.kind, KINDS["str"])
    try:
        word = writer(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{given}: --{flag.name} must be {wanted}") from None
    if flag.choices and word not in flag.choices:
        close = difflib.get_close_matches(word, flag.choices, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{given}: --{flag.name} must be one of {', '.join(flag.choices)}{meant}")
    if _holds_password(word):
        raise ConfigError(f"{given.partition('=')[0]}: holds a password, which settings never do; leave it out")
    return word


def _holds_password(word: str) -> bool:
    try:
        return bool(urlsplit(word).password)
    except ValueError:
        return False


def _int(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return str(value)


def _float(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return str(value)


def _str(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise TypeError
    return str(value)


def _true(value: Any) -> str:
    """argparse's `type=bool` takes any word for true."""
    if value is not True:
        raise TypeError
    return "True"


def _json(value: Any) -> str:
    if isinstance(value, str):
        json.loads(value)
        return value
    if not isinstance(value, (dict, list)):
        raise TypeError
    return json.dumps(value)


def _count(value: Any) -> str:
    """A whole number, also as 32k, 1.5M or 64Ki."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?([kKmMgGtT]i?)?", value):
        return value
    return _int(value)


def _pattern(value: Any) -> str:
    """A whole number, or a list of 0 and 1 such as [0]+[1]*47."""
    if isinstance(value, list) and value and set(value) <= {0, 1}:
        return json.dumps(value, separators=(",", ":"))  # Megatron allows no spaces
    if isinstance(value, str) and re.fullmatch(r"\d+|[\[\]()*+,\d]+", value) and value.count("[") == value.count("]"):
        return value
    return _int(value)


KINDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "str": ("a word", _str),
    "int": ("a whole number", _int),
    "float": ("a number", _float),
    "bool": ("true", _true),
    "loads": ("JSON", _json),
    "json_list_type": ("JSON", _json),
    "human_readable_int": ("a whole number", _count),
    "moe_freq_type": ("a whole number, or a pattern of layers such as [0]+[1]*47", _pattern),
    "la_freq_type": ("a whole number, or a pattern of layers such as [0]+[1]*47", _pattern),
    "no_rope_freq_type": ("a whole number, or a pattern of layers such as [0]+[1]*47", _pattern),
}
