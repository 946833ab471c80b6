"""docs/configuration.md, made from the schema and conf/: `python -m tau2_exp configuration` prints it."""

from __future__ import annotations

import argparse
import json
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

from omegaconf import MISSING

from tau2_exp.compose.choices import choices, group_meanings
from tau2_exp.compose.keys import EXPERIMENT
from tau2_exp.config import STAGES, Config
from tau2_exp.config.setting import Setting, bound_text, settings_of

HEAD = """\
# Configuration

This page is made from the schema (`tau2_exp/config/`) and the choices under `conf/`:
`python -m tau2_exp configuration > docs/configuration.md`.

A command names choices and settings: `python run.py GROUP=CHOICE KEY=VALUE …`. A choice sets some of its group's
settings; those that it does not set have the default given here. `--cfg job` prints every setting of a command with
its value.

Text stands in quotes where it has other letters than `a-z A-Z 0-9 / . - _ : + @ % * ? | $`:
`stage.data='"/data/a=1.jsonl"'`. A new entry of a mapping is written with a plus: `+engine.slime.flags.NAME=VALUE`.
A path may begin with `~`, in quotes: `outputs='"~/runs"'`.
"""
TABLE = "| setting | type | default | meaning |\n|---|---|---|---|"


def configuration_page() -> str:
    """The page as Markdown."""
    return "\n".join(_page())


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `python -m tau2_exp`."""
    command = commands.add_parser("configuration", help="print docs/configuration.md: every setting and what it means")
    command.set_defaults(run=_print)


def _print(arguments: argparse.Namespace) -> int:
    print(configuration_page(), end="")
    return 0


def _page() -> Iterator[str]:
    yield HEAD
    top = [one for one in settings_of(Config) if not one.section]
    yield from ("## The command", "", TABLE, *(_row(one, one.key) for one in top), "")
    for one in settings_of(Config):
        if one.section:
            yield from _group(one)
    yield from (f"## {EXPERIMENT}", "", _sentence(group_meanings()[EXPERIMENT]), "", *_choices(EXPERIMENT))


def _group(one: Setting) -> Iterator[str]:
    yield from (f"## {one.key}", "", _sentence(one.notes.meaning), "")
    if one.key in group_meanings():
        yield from _choices(one.key)
    if one.key == "stage":
        for name, cls in STAGES.items():
            yield from (f"### stage={name}", "", _sentence((cls.__doc__ or "").splitlines()[0]), "")
            yield from (*_tables(cls, "stage."), "")
    else:
        assert one.section
        yield from (*_tables(one.section, f"{one.key}."), "")


def _choices(group: str) -> Iterator[str]:
    lines = [
        f"- `{group}={name}`{' (default)' if place == 0 and group != EXPERIMENT else ''}: {meaning}"
        for place, (name, meaning) in enumerate(choices(group).items())
    ]
    yield from (*lines, "")


def _tables(cls: type, prefix: str) -> Iterator[str]:
    """One table of a section and of what it holds; a pipeline's stages have tables of their own."""
    yield TABLE
    yield from _rows(cls, prefix)


def _rows(cls: type, prefix: str) -> Iterator[str]:
    for one in settings_of(cls):
        key = prefix + one.key
        if one.section in STAGES.values():
            yield f"| `{key}.…` | | | {one.notes.meaning}: those of stage={one.key} |"
        elif one.section:
            yield from _rows(one.section, f"{key}.")
        else:
            yield _row(one, key)


def _row(one: Setting, key: str) -> str:
    default = "" if one.default == MISSING else f"`{_written(one.default)}`"
    return f"| `{key}` | {_type(one)} | {default} | {_cell(one.notes.meaning + _bounds(one))} |"


def _type(one: Setting) -> str:
    kind = one.base_type
    null = "" if kind is one.type else " or null"
    return _type_name(kind) + null


def _type_name(kind: Any) -> str:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return f"list of {_type_name(options[0])}s"
    if origin is dict:
        return f"mapping to {_type_name(options[1])}s"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(str(member.value) for member in kind)
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "value"}
    return names.get(kind, "part weight")


def _bounds(one: Setting) -> str:
    notes = one.notes
    lower = f"above {bound_text(notes.above)}" if notes.above is not None else ""
    lower = f"{bound_text(notes.at_least)} or more" if notes.at_least is not None else lower
    for word, bound in (("at most", notes.at_most), ("below", notes.below)):
        if bound is not None:
            lower = ", ".join(filter(None, [lower, f"{word} {bound_text(bound)}"]))
    return f" ({lower})" if lower else ""


def _written(value: Any) -> str:
    """A default as JSON, as the frozen configuration of a run has it."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: vars(entry) if hasattr(entry, "__dict__") else entry for key, entry in value.items()}
    return value


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "."
