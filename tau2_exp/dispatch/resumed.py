"""The settings that a resumed run may change: all that its content address does not name, and no other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from tau2_exp.compose.check import check
from tau2_exp.compose.composition import read_config
from tau2_exp.compose.overrides import key_of
from tau2_exp.config import STAGES, Config, ConfigError, PipelineConfig, from_data, to_data
from tau2_exp.config.paths import make_absolute
from tau2_exp.dispatch.plan import TRAINED
from tau2_exp.dispatch.step import Step
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tau2_exp.system.quoting import setting, shell

OF_A_COMMAND = ("resume", "dry_run", "wait", "debug")  # and of no run
SETTINGS = {field.name for field in fields(Config)} - {*OF_A_COMMAND, "name", "outputs", "parent"}


def change(targets: Sequence[Step], overrides: Sequence[str], folder: Path) -> None:
    """Set the overrides in the configuration of each step that is left to do; its folder is not touched yet.

    Raises ConfigError for one that would change a result, and for one of a stage that nothing left to do has.
    """
    given = [text for text in overrides if key_of(text) not in OF_A_COMMAND]
    steps = {step.address: step for target in targets for step in target.lineage()}.values()
    for text in given:
        if text.startswith("~") or key_of(text) == "stage" or key_of(text).partition(".")[0] not in SETTINGS:
            raise ConfigError(f"{text}: is no setting of a run, so that it cannot be given anew; remove it")
        if any(_address(step, with_settings(step.config, [text])) != _address(step, step.config) for step in steps):
            raise ConfigError(f"{text}: resume={folder} uses the run's own frozen settings; {_instead(folder, text)}")
        left = [step for step in steps if not step.finished]
        if key_of(text).startswith("stage.") and not any(list(_own(text, step.stage)) for step in left):
            what = (
                "unfinished evaluation to spend it on" if "budget" in text else "unfinished run that has this setting"
            )
            raise ConfigError(f"{text}: there is no {what}; remove it")
    for step in steps:
        changed = with_settings(step.config, given)
        if changed != step.config:
            check(changed)
        step.config = changed


def _instead(folder: Path, refused: str) -> str:
    """What to do with a setting that would change the result of a resumed run."""
    drop = "remove one of the two"
    if (folder / "sweep.json").is_file() or not key_of(refused).startswith("stage."):
        return drop
    run = Run.open(folder)
    trained = next((one for one in reversed((*run.members, run)) if one.stage in TRAINED), None)
    if trained is None:
        return drop
    own = f"stage.{refused.partition('.')[2].removeprefix(f'{trained.stage}.')}"
    begin = shell([f"stage={trained.stage}", f"model={trained.config.model.name}"])
    further = f"{begin} {setting('parent', trained.folder)} {shell([own])}"
    return f"{drop}, or, once it is finished, train its model further: {further}"


def with_settings(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration with what these overrides say, each as far as its stage has it; not checked as a whole.

    Raises ConfigError for what is no setting, or of a wrong type.
    """
    own = [text for override in overrides for text in _own(override, config.stage.name)]
    if not own:
        return config
    composed = _composed(config.stage.name, tuple(own))
    data = copy.deepcopy(to_data(config))
    for text in own:
        _carry(composed, data, key_of(text).split("."))
    return from_data(data)


@cache
def _composed(stage: str, own: tuple[str, ...]) -> dict[str, Any]:
    return to_data(make_absolute(read_config([f"stage={stage}", *own])))


def _own(override: str, stage: str) -> Iterator[str]:
    """An override as a run of this stage takes it: a pipeline nests the settings that its members have alone."""
    key, _, value = override.partition("=")
    plus, name = key[: len(key) - len(key.lstrip("+"))], key.lstrip("+")
    if not name.startswith("stage."):
        yield override
        return
    head, _, rest = name.removeprefix("stage.").partition(".")
    if stage == PipelineConfig.name:
        if rest or _has(stage, head):
            yield override
        else:
            yield from (f"{plus}stage.{member}.{head}={value}" for member in STAGES if _nests(member, head))
    elif rest and head == stage:
        yield f"{plus}stage.{rest}={value}"
    elif not rest and _has(stage, head):
        yield override


def _has(stage: str, setting: str) -> bool:
    return any(field.name == setting for field in fields(STAGES[stage]))


def _nests(member: str, setting: str) -> bool:
    return member != PipelineConfig.name and _has(member, setting)


def _carry(source: Any, target: Any, names: Sequence[str]) -> None:
    """Copy a leaf, or the settings of a whole group, from one configuration's data into another's."""
    *above, last = names
    for name in above:
        source, target = source[name], target[name]
    target[last] = source[last]


def _address(step: Step, config: Config) -> str:
    """A run's address; of a pipeline what it consists of, since its members are checked themselves."""
    if isinstance(config.stage, PipelineConfig):
        return f"{config.stage.stages} {config.stage.evaluate}"
    return content_address(config, step.parent.address if step.parent else None)
