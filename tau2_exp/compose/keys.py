"""The keys of the schema, and suggestions for unknown keys."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from functools import cache

from tau2_exp.config import STAGES, Config
from tau2_exp.config.nearest import did_you_mean, nearest, slips, suggest
from tau2_exp.config.setting import Setting, walk

EXPERIMENT = "experiment"
GROUPS = (*(one.name for one in dataclasses.fields(Config) if one.default == "???"), EXPERIMENT)


@cache
def known_settings(stage: str | None = None) -> dict[str, Setting]:
    """Every setting and section by its dotted key, where `stage` (None: any) is the stage chosen."""
    found = {one.key: one for one in walk(Config) if not one.key.startswith("stage.")}
    for name, cls in STAGES.items():
        if stage in (None, name):
            found |= {one.key: one for one in walk(cls, "stage.")}
    return found


def is_text(key: str) -> bool:
    """Whether the schema wants text, or a list of texts, for this key; give the name of one of the group's choices."""
    if key in GROUPS:
        return True
    one = known_settings().get(key) or known_settings().get(key.rpartition(".")[0])
    return one is not None and (one.base_type is str or typing.get_args(one.base_type)[-1:] == (str,))


def suggest_key(key: str, stage: str | None = None) -> str:
    """`; did you mean …?` for a key that is no setting, where one is near.

    In this order: a key that differs by a slip; a setting whose meaning begins with the key's own words
    (learning_rate: lr); the nearest in the same section; the same last part elsewhere. A key of an unknown section is
    compared as a whole.
    """
    known = [*known_settings(stage), EXPERIMENT]
    section, _, leaf = key.rpartition(".")
    siblings = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == section}
    if hint := did_you_mean(slips(key, known) or _by_meaning(leaf, siblings.values(), stage)):
        return hint
    if siblings:
        return did_you_mean(siblings[name] for name in nearest(leaf, siblings)) or _elsewhere(key, known, stage)
    return _elsewhere(key, known, stage) or suggest(key, known)


def _elsewhere(key: str, known: Iterable[str], stage: str | None) -> str:
    """Settings with the same last part: those below the key's own section, else the nearest by the whole key.

    Where there are none, those whose meaning begins with the last part's words.
    """
    section, _, leaf = key.rpartition(".")
    same = [one for one in known if one.rpartition(".")[2] == leaf]
    below = [one for one in same if one.startswith(f"{section}.")] if section else same
    return did_you_mean(below or nearest(key, same) or same or _by_meaning(leaf, known, stage))


def _by_meaning(leaf: str, keys: Iterable[str], stage: str | None) -> list[str]:
    words = leaf.replace("_", " ").replace("-", " ").lower()
    settings = known_settings(stage)
    meant = [key for key in keys if key in settings and _begins_with(settings[key].notes.meaning, words)]
    return meant if " " in words else []


def _begins_with(meaning: str, words: str) -> bool:
    return meaning.lower().startswith(f"{words} ") or meaning.lower() == words
