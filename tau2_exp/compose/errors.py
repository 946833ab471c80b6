"""Hydra's and OmegaConf's errors, some of them ten lines long, as one line that names the fix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tau2_exp.compose.choices import defaults
from tau2_exp.compose.keys import EXPERIMENT, GROUPS, known_settings, suggest_key
from tau2_exp.compose.overrides import key_of
from tau2_exp.config import STAGES, PipelineConfig
from tau2_exp.config.nearest import suggest

WANTED = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false", "String": "a word"}


def explain(error: BaseException, overrides: Sequence[str]) -> str:
    """One line: the key, the value given, and what is allowed."""
    text = f"{error}\n{error.__cause__ or ''}"
    for reader in (
        _ambiguous,
        _no_interval,
        _no_option,
        _no_key,
        _no_group,
        _extra_key,
        _missing,
        _null_group,
        _section,
        _wrong_value,
    ):
        if line := reader(text, overrides):
            return line if line.startswith("experiment=") else _where(text) + line
    return " ".join(str(error).split())


def _where(text: str) -> str:
    found = re.search(r"In '([^']+)': \w+ raised", text)
    return f"conf/{found[1]}.yaml: " if found else ""


def _given(key: str, overrides: Sequence[str]) -> str:
    """The override as it was typed, where one sets the key or a setting below it; else the bare key."""
    return next((text for text in overrides if f"{key_of(text)}.".startswith(f"{key}.")), key)


def _full_key(text: str) -> str:
    found = re.search(r"full_key: (\S+)", text)
    return found[1] if found else ""


def _ambiguous(text: str, overrides: Sequence[str]) -> str:
    found = re.search(r"Ambiguous value for argument '([^=']+)=([^']*)'", text)
    return f"{found[1]}={found[2]}: several values; -m runs each of them, [{found[2]}] is a list" if found else ""


def _no_interval(text: str, overrides: Sequence[str]) -> str:
    if "does not support sweep type" not in text:
        return ""
    return f"{' '.join(overrides)}: -m takes values (a,b) and whole numbers (range(1,4)), no intervals"


def _no_group(text: str, overrides: Sequence[str]) -> str:
    found = re.search(r"Could not override '([^']+)'|config group '([^']+)' does not exist", text)
    if not found:
        return ""
    group = found[1] or found[2]
    return f"{_given(group, overrides)}: {group} is no group that can be chosen{suggest(group, GROUPS)}"


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
        return f"{given}: not there yet{_entry(key)}; to add it write +{given}"
    whole, stage = (key_of(given) if "=" in given else key), _stage(text, key) or _chosen_stage(overrides)
    owners = [name for name in STAGES if whole.startswith("stage.") and whole in known_settings(name)]
    experiment = re.search(r"In 'experiment/([^']+)': \w+ raised", text)
    if owners and experiment:
        return _other_stages_experiment(f"experiment={experiment[1]}", whole, f"stage={stage}", f"stage={owners[0]}")
    if owners and stage != PipelineConfig.name:
        return f"{given}: no such setting{_of_stage(stage)}; {' and '.join(f'stage={name}' for name in owners)} have it"
    of_stage = _of_stage(stage) if whole.startswith("stage.") else ""
    return f"{given}: no such setting{of_stage}{suggest_key(whole, stage)}"


def _entry(key: str) -> str:
    """The nearest entry of the same mapping, as the schema has it."""
    section, _, name = key.rpartition(".")
    mapping = known_settings().get(section)
    entries = mapping.default if mapping and isinstance(mapping.default, dict) else {}
    return suggest(name, entries).removesuffix("?")


def _other_stages_experiment(experiment: str, key: str, stage: str, owner: str) -> str:
    """An experiment that sets what the stage chosen beside it does not have."""
    return f"{experiment} {stage}: {experiment} sets {key}, a setting of {owner}; remove {stage}, or {experiment}"


def _chosen_stage(overrides: Sequence[str]) -> str | None:
    """The stage that the command line chooses; None where an experiment may choose it."""
    chosen = {key_of(text): text.partition("=")[2] for text in overrides}
    return chosen.get("stage") or (None if EXPERIMENT in chosen else defaults()["stage"])


def _extra_key(text: str, overrides: Sequence[str]) -> str:
    """What `+key=…` added beside the schema, as the decoder names it."""
    found = re.match(r"(\w+)((?:\.\w+)*): unknown field '([^']+)'", text)
    if not found:
        return ""
    stage = next((name for name, cls in STAGES.items() if cls.__name__ == found[1]), None)
    key = ("stage." if stage else "") + f"{found[2]}.{found[3]}".lstrip(".")
    return f"{_given(key, overrides)}: no such setting{suggest_key(key, stage)}"


def _missing(text: str, overrides: Sequence[str]) -> str:
    if not re.search(r"missing mandatory value", text, re.I):
        return ""
    key = _full_key(text)
    return f"{_given(key, overrides)}: has no value; give one: {key}=…"


def _null_group(text: str, overrides: Sequence[str]) -> str:
    if "Config group override must be" not in text:
        return ""
    return next((f"{o}: give the name of one of the group's choices" for o in overrides if o.endswith("=null")), "")


def _section(text: str, overrides: Sequence[str]) -> str:
    given = next((o for o in overrides if "Error merging override" in text and f"override {o}" in text), "")
    known = known_settings()
    held = [key for key in known if given and key.startswith(f"{key_of(given)}.")]
    return f"{given}: holds settings; give one of them a value: {held[0]}=…" if held else ""


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
    if "is not a valid bool" in text:
        return f"{given}: must be {WANTED['Boolean']}"
    if re.search(r"Cannot assign \w+ to Dict", text):
        return f"{given}: must be a mapping: {key}={{NAME:VALUE}}"
    if "is not Optional" in text:
        return f"{given}: must not be null"
    reason = next(line for line in reversed(text[: text.index("full_key:")].splitlines()) if line.strip())
    return f"{given}: {reason.strip()}"


def _stage(text: str, key: str) -> str | None:
    """The stage chosen, where the error tells: a key within a pipeline's own stage belongs to the pipeline."""
    stage = next((name for name, cls in STAGES.items() if f"object_type={cls.__name__}" in text), None)
    return PipelineConfig.name if stage and key.count(".") > 1 else stage


def _of_stage(stage: str | None) -> str:
    nested = "; it nests those of its stages (stage.sft.lr)" if stage == PipelineConfig.name else ""
    return f" of stage={stage}{nested}" if stage else ""
