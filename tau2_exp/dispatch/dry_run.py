"""dry_run=true and dry_run=json: what a command line would do, printed as a shell script or as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tau2_exp.compose.composition import chain_settings, compose_config
from tau2_exp.compose.overrides import key_of
from tau2_exp.config import Config, ConfigError, LauncherKind
from tau2_exp.dispatch.commands import FREEZE, folder_of, freeze_command, parts
from tau2_exp.dispatch.freeze import check_names, freeze
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.resumed import OF_A_COMMAND
from tau2_exp.dispatch.script import script
from tau2_exp.dispatch.show import plan_lines
from tau2_exp.dispatch.step import Step
from tau2_exp.engines.slime.plan.plan import TAU2_EXP
from tau2_exp.engines.torch.memory import told as memory
from tau2_exp.runs.outputs import check_name
from tau2_exp.system.commands import Command
from tau2_exp.system.quoting import override, shell_comment


def freeze_only(overrides: Sequence[str], argv: Sequence[str]) -> int:
    """Make the run folders of a configuration, start nothing, and print their paths."""
    config = compose_config(overrides)
    if config.resume:
        raise ConfigError("resume: a run that is resumed has its folder already; `freeze` makes new ones")
    target = Planner(Path(config.outputs)).plan(config, partial(chain_settings, overrides))
    freeze(target, argv)
    for step in target.lineage():
        assert step.run is not None
        print(step.run.folder)
    return 0


def preview(jobs: Sequence[Sequence[str]], configs: Sequence[Config]) -> int:
    """Print what these jobs (their overrides, and the configurations composed of them) would do; make nothing.

    The exit status. dry_run of the first configuration chooses a shell script or JSON.
    """
    planner, names = Planner(Path(configs[0].outputs)), _folder_names(configs)
    check_name(configs[0].name)
    targets: list[Step] = []
    freezing: dict[int, Command] = {}
    for place, (job, config, name) in enumerate(zip(jobs, configs, names, strict=True)):
        target = planner.plan(replace(config, name=name), partial(chain_settings, job))
        targets.append(target)
        check_names(target, Path(config.outputs))
        if not target.finished:
            kept = [text for text in job if text.partition("=")[0] not in ("dry_run", "name")]
            freezing[place] = freeze_command(
                [*kept, override("name", name)], FREEZE if len(jobs) == 1 else f"{FREEZE}-{name}"
            )
    return _tell(targets, freezing, configs[0].dry_run)


def preview_frozen(targets: Sequence[Step], form: Any, overrides: Sequence[str]) -> int:
    """Print what is left to do for frozen runs, as a script or, where `form` is "json", as JSON; the exit status.

    Where settings are given anew, or an evaluation lost samples, folders change first: the resuming command does it.
    """
    lost = any(step.run and step.run.lost_samples for target in targets for step in target.lineage())
    if not lost and all(key_of(text) in OF_A_COMMAND for text in overrides):
        return _tell(targets, {}, form)
    kept = [text for text in overrides if key_of(text) != "dry_run"]
    resuming = Command("resume", (*TAU2_EXP, "run", *kept))
    if form == "json":
        print(json.dumps({"steps": [asdict(resuming)]}, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(_comments(targets)))
    print(script([("what is left, with the settings that are given anew", [resuming])], 0))
    return 0


def _folder_names(configs: Sequence[Config]) -> list[str]:
    """Names for the target runs' folders: what is printed now has to be true when it is done."""
    now, given = f"{datetime.now():%Y-%m-%d_%H%M%S}", configs[0].name
    if len(configs) == 1:
        return [given or f"{now}-{configs[0].stage.name}"]
    return [f"{given or now + '-sweep'}-{place:03}" for place in range(len(configs))]


def _tell(targets: Sequence[Step], freezing: Mapping[int, Command], form: Any) -> int:
    made = parts(targets, {place: command.name for place, command in freezing.items()})
    if form == "json":
        commands = [*freezing.values(), *(command for part in made for command in part.commands)]
        print(json.dumps({"steps": [asdict(command) for command in commands]}, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(_comments(targets)))
    if made:
        blocks = [(f"{part.step.stage}: {folder_of(part.step)}", part.commands) for part in made]
        first = [("the run folders", list(freezing.values()))] if freezing else []
        print(script([*first, *blocks], targets[0].config.engine.slime.start_seconds))
    return 0


def _comments(targets: Sequence[Step]) -> list[str]:
    """What was found and what is to be made, and where."""
    lines = list(dict.fromkeys(line for target in targets for line in plan_lines(target)))
    left = [step for target in targets for step in target.lineage() if not step.finished]
    lines += dict.fromkeys(filter(None, (memory(step.config) for step in left)))
    hardware = targets[0].config.hardware
    if hardware.launcher is LauncherKind.slurm:
        lines.append("SLURM: without dry_run each run is submitted as a job. To run this by hand: inside an allocation")
        lines.append(f"of {hardware.nodes} x {hardware.gpus} GPUs, in the order of these lines.")
    if hardware.nodes > 1:
        lines.append("On every other node, while a run trains: python -m tau2_exp ray join FOLDER")
    return [shell_comment(line) for line in lines]
