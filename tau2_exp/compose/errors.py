"""Hydra's and OmegaConf's errors, some of them ten lines long, as one line that says what would do."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Sequence

from tau2_exp.config import STAGES, Config, PipelineConfig

WANTED = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false", "String": "a word"}


def explain(error: BaseException, overrides: Sequence[str]) -> str:
    """One line: the key, what was given, what would do."""
    text = f"{error}\n{error.__cause__ or ''}"
    for reader in (_unparsable, _ambiguous, _no_option, _no_key, _extra_key, _missing, _null_group, _wrong_value):
        if line := reader(text, overrides):
            return _where(text) + line
    return " ".join(str(error).split())


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` where something close is known."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def all_keys(cls: type = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the schema; `stage.…` is that of any stage."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = f"{prefix}{field.name}", hints[field.name]
        if key == "stage":
            for stage in STAGES.values():
                yield from all_keys(stage, "stage.")
        elif dataclasses.is_dataclass(kind):
            yield from all_keys(typing.cast(type, kind), f"{key}.")
        else:
            yield key


def _where(text: str) -> str:
    found = re.search(r"In '([^']+)': \w+ raised", text)
    return f"conf/{found[1]}.yaml: " if found else ""


def _given(key: str, overrides: Sequence[str]) -> str:
    """The override as it was typed, or the bare key."""
    return next((o for o in overrides if o.lstrip("+~").partition("=")[0] == key), key)


def _full_key(text: str) -> str:
    found = re.search(r"full_key: (\S+)", text)
    return found[1] if found else ""


def _unparsable(text: str, overrides: Sequence[str]) -> str:
    if "override_grammar" not in text:
        return ""
    found = re.search(r"override '([^']*)'", text) or re.search(r"at input '([^']*)'", text)
    culprit = next((o for o in overrides if found and found[1] in o), " ".join(overrides))
    key, equals, value = culprit.partition("=")
    if not equals:
        return f"{culprit}: not a setting; write key=value{suggest(culprit, all_keys())}"
    return f"{culprit}: cannot be read; put the value in quotes: {key}='\"{value}\"'"


def _ambiguous(text: str, overrides: Sequence[str]) -> str:
    found = re.search(r"Ambiguous value for argument '([^=']+)=([^']*)'", text)
    return f"{found[1]}={found[2]}: several values; -m runs each of them, [{found[2]}] is a list" if found else ""


def _no_option(text: str, overrides: Sequence[str]) -> str:
    found = re.search(r"Could not find '([^']+)'", text)
    if not found:
        return ""
    group, _, option = found[1].rpartition("/")
    listed = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)+)", text)
    options = listed[1].split() if listed else []
    return f"{group}={option}: no such {group}{suggest(option, options)} (there are {', '.join(options)})"


def _no_key(text: str, overrides: Sequence[str]) -> str:
    key = _full_key(text)
    if not key or not re.search(r"Key '[^']+' (not in|is not in struct)", text):
        return ""
    given = _given(key, overrides)
    if "object_type=dict" in text:
        return f"{given}: not there yet; to add it write +{given}"
    same_leaf = [known for known in _keys_of(text) if known.rpartition(".")[2] == key.rpartition(".")[2]]
    if same_leaf:
        return f"{given}: no such setting{_of_stage(text)}; did you mean {' or '.join(same_leaf[:3])}?"
    return f"{given}: no such setting{_of_stage(text)}{suggest(key, [*_keys_of(text), *_groups()])}"


def _extra_key(text: str, overrides: Sequence[str]) -> str:
    """What `+key=…` added beside the schema, as the decoder names it."""
    found = re.match(r"(\w+)((?:\.\w+)*): unknown field '([^']+)'", text)
    if not found:
        return ""
    stages = {cls.__name__: "stage." for cls in STAGES.values()}
    key = stages.get(found[1], "") + f"{found[2]}.{found[3]}".lstrip(".")
    return f"{_given(key, overrides)}: no such setting{suggest(key, all_keys())}"


def _missing(text: str, overrides: Sequence[str]) -> str:
    if not re.search(r"missing mandatory value", text, re.I):
        return ""
    key = _full_key(text)
    return f"{_given(key, overrides)}: has no value; give one: {key}=…"


def _null_group(text: str, overrides: Sequence[str]) -> str:
    if "Config group override must be" not in text:
        return ""
    return next((f"{o}: give the name of one of the group's choices" for o in overrides if o.endswith("=null")), "")


def _wrong_value(text: str, overrides: Sequence[str]) -> str:
    key = _full_key(text)
    if not key:
        return ""
    given = _given(key, overrides)
    value = given.partition("=")[2]
    if found := re.search(r"expected one of \[([^\]]+)\]", text):
        options = found[1].split(", ")
        return f"{given}: must be one of {', '.join(options)}{suggest(value, options)}"
    if "is not a ListConfig" in text:
        return f"{given}: must be a list: {key}=[{value}]"
    if found := re.search(r"could not be converted to (\w+)", text):
        return f"{given}: must be {WANTED.get(found[1], found[1])}"
    if "is not Optional" in text:
        return f"{given}: must not be null"
    return f"{given}: {text.splitlines()[0]}"


def _groups() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)] + ["experiment"]


def _keys_of(text: str) -> list[str]:
    """The keys that could have been meant: of the stage chosen, where the error names it."""
    stage = next((cls for cls in STAGES.values() if f"object_type={cls.__name__}" in text), None)
    others = [key for key in all_keys() if not key.startswith("stage.")]
    if stage is None:
        return others + list(dict.fromkeys(key for key in all_keys() if key.startswith("stage.")))
    return list(all_keys(stage, "stage.")) + others


def _of_stage(text: str) -> str:
    stage = next((name for name, cls in STAGES.items() if f"object_type={cls.__name__}" in text), "")
    nested = "; it nests those of its stages (stage.sft.lr)" if stage == PipelineConfig.name else ""
    return f" of stage={stage}{nested}" if stage else ""
