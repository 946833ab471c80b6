"""`--cfg job`: a configuration as YAML in which each key's meaning is a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tau2_exp.compose.keys import known_settings
from tau2_exp.config import Config, ConfigError, to_data

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C is five times as fast
WIDEST = 2**31 - 1  # no line is broken


def config_yaml(config: Config, section: str | None = None) -> str:
    """The configuration, or one section of it by its dotted name, as YAML with comments.

    Raises ConfigError where there is no such section.
    """
    data = to_data(config)
    for name in section.split(".") if section else ():
        if not isinstance(data, dict) or not isinstance(data.get(name), dict):
            raise ConfigError(f"--package {section}: no such section")
        data = data[name]
    meanings = {key: one.notes.meaning for key, one in known_settings(config.stage.name).items()}
    return "\n".join(_lines(data, f"{section}." if section else "", "", meanings)) or "{}"


def _lines(data: Mapping[str, Any], prefix: str, indent: str, meanings: Mapping[str, str]) -> Iterator[str]:
    for name, value in data.items():
        meaning = meanings.get(prefix + name, "")
        is_section = isinstance(value, dict) and value
        entry = {name: None if is_section else value}
        dumped = yaml.dump(entry, Dumper=DUMPER, sort_keys=False, width=WIDEST, allow_unicode=True).splitlines()
        first, rest = (dumped[0].removesuffix(" null") if is_section else dumped[0]), dumped[1:]
        if rest and not isinstance(value, list):  # a text of several lines: what follows it would belong to it
            yield from [f"{indent}# {meaning}"] if meaning else []
            yield f"{indent}{first}"
        else:
            yield f"{indent}{first}  # {meaning}" if meaning else f"{indent}{first}"
        yield from (f"{indent}{line}" for line in rest)
        if is_section:
            yield from _lines(value, f"{prefix}{name}.", f"{indent}  ", meanings)
