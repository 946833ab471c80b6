"""The groups under conf/: their choices, what each of them means, and which is the default.

The first comment line of a group's YAML says what the choice means; a stage's docstring does, since stages are all in
the schema.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tau2_exp.compose.keys import EXPERIMENT, GROUPS
from tau2_exp.config import STAGES, Config
from tau2_exp.config.setting import settings_of
from tau2_exp.system.code import conf_folder

CONF = conf_folder()


def choices(group: str, conf: Path = CONF) -> dict[str, str]:
    """The meaning of each choice of a group, the default first."""
    if group == "stage":
        found = {name: first_line(cls) for name, cls in STAGES.items()}
    else:
        found = {path.stem: meaning_of(path) for path in sorted((conf / group).glob("*.yaml"))}
    default = defaults(conf).get(group)
    return {name: found[name] for name in sorted(found, key=lambda name: name != default)}


def group_meanings() -> dict[str, str]:
    """The meaning of each group, by its name."""
    meanings = {one.key: one.notes.meaning for one in settings_of(Config)} | {EXPERIMENT: "settings that go together"}
    return {group: meanings[group] for group in GROUPS}


@cache
def defaults(conf: Path = CONF) -> dict[str, str]:
    """By group, the choice in the primary config's defaults list."""
    pairs = (line.strip(" -").partition(": ") for line in (conf / "config.yaml").read_text().splitlines())
    return {key: value for key, _, value in pairs if key in GROUPS and value != "null"}


def meaning_of(path: Path) -> str:
    """The first comment line of a YAML file, behind Hydra's own `# @package`; empty where it has none."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            return ""
        if not line.startswith("# @"):
            return line.lstrip("# ").rstrip()
    return ""


def first_line(cls: type) -> str:
    """The first line of a class's docstring, as a list shows it."""
    line = (cls.__doc__ or "").splitlines()[0].removesuffix(".")
    return line[:1].lower() + line[1:]
