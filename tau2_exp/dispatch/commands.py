"""What would be done, as commands: each run frozen, then what its stage starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tau2_exp.dispatch.local.processes import settings
from tau2_exp.dispatch.plan import MODELS
from tau2_exp.dispatch.step import Step
from tau2_exp.engines.slime.plan.places import MODEL
from tau2_exp.engines.slime.plan.plan import TAU2_EXP, is_planned, make_plan
from tau2_exp.system.commands import Command

FREEZE, WORK = "freeze", "work"


@dataclass(frozen=True)
class Part:
    """One run's commands, in order. Their names are unique among the commands of all runs."""

    step: Step
    commands: tuple[Command, ...]


def folder_of(step: Step) -> Path:
    """The folder of a step's run, which may not exist yet."""
    return step.run.folder if step.run else Path(step.config.outputs) / (step.name or step.address[:8])


def freeze_command(overrides: Sequence[str], name: str) -> Command:
    """The command that makes the run folders of the configuration that these overrides give."""
    return Command(name, (*TAU2_EXP, "freeze", *overrides))


def parts(targets: Sequence[Step], frozen: Mapping[int, str]) -> list[Part]:
    """The commands of every unfinished run that the targets need, each run once.

    `frozen` maps a target's index to the name of the command that freezes it. A run with a plan ends with `work`, which
    finds the plan done and records the results.
    """
    steps: dict[str, tuple[Step, str]] = {}
    for place, target in enumerate(targets):
        for step in target.lineage():
            if not step.finished:
                steps.setdefault(step.address, (step, frozen.get(place, "")))
    names = _names([step for step, _ in steps.values()])
    made: list[Part] = []
    for step, freeze in steps.values():
        before = [f"{names[needed.address]}/{WORK}" for needed in step.needs if needed.address in names]
        first = (*([freeze] if freeze else []), *before)
        made.append(Part(step, tuple(_named(names[step.address], _commands(step), first))))
    return made


def _names(steps: Sequence[Step]) -> dict[str, str]:
    """By address: the stage where one run has it, else its folder's name."""
    stages = [step.stage for step in steps]
    return {step.address: step.stage if stages.count(step.stage) == 1 else folder_of(step).name for step in steps}


def _commands(step: Step) -> list[Command]:
    """The last is `work`."""
    folder, config = folder_of(step), step.config
    work = (*TAU2_EXP, "work", str(folder))
    if not is_planned(config):
        env = dict(setting.partition("=")[::2] for setting in settings(config.hardware))
        return [Command(WORK, work, env)]
    plan = make_plan(config, folder, start_of(step))
    needed = {name for command in plan for name in command.needs}
    last = tuple(command.name for command in plan if command.name not in needed and command.ready is None)
    return [*plan, Command(WORK, work, needs=last)]


def start_of(step: Step) -> str:
    """The model that a run begins with, as its worker will find it."""
    parent = step.parent
    if parent is not None and parent.stage in MODELS:
        model = parent.run.results.get("model") if parent.run and parent.finished else MODEL
        if model:  # a stage of the user's own may have left none
            return str((folder_of(parent) / model).absolute())
    return step.config.model.path or ""


def _named(run: str, commands: Sequence[Command], first: tuple[str, ...]) -> Iterator[Command]:
    for command in commands:
        needs = tuple(f"{run}/{name}" for name in command.needs) or first
        until = f"{run}/{command.until}" if command.until else None
        yield replace(command, name=f"{run}/{command.name}", needs=needs, until=until)
