"""Evaluations that are parts of one plan as one result; what does not belong together is refused by name."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from tau2_exp.config import Config, ConfigError, EvalConfig, PolicyKind, to_data
from tau2_exp.evaluation.finished import write_evaluation
from tau2_exp.evaluation.plan import Place, Plan, contradicts, read_plan
from tau2_exp.evaluation.scores import imported_facts, missing
from tau2_exp.evaluation.sources import read_sources
from tau2_exp.evaluation.standing import standing, stands
from tau2_exp.runs.address import NEUTRAL, merged_address, of_torch, sources_of
from tau2_exp.runs.run import Run
from tau2_exp.types import Trajectory

AGENT = ("policy", "model", "engine.name", "domain.document", "stage.temperature", "stage.top_p", "stage.top_k")


def register(commands: argparse._SubParsersAction) -> None:
    """Add `merge` to a parser's subcommands."""
    command = commands.add_parser("merge", help="combine evaluations of one agent that are parts of one plan")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, finished or not")
    command.add_argument("--name", required=True, help="name of the new run folder, created beside the first")
    command.set_defaults(run=_command)


def _command(arguments: argparse.Namespace) -> int:
    run = merge([Run.open(folder) for folder in arguments.runs], arguments.name)
    print(run.table)
    print(f"finished: {run.folder}")
    return 0


def merge(runs: Sequence[Run], name: str) -> Run:
    """One finished evaluation of all episodes of these; where several have an episode, the first with a score counts.

    Raises ConfigError where task revision, user, limits, seeds or the agent differ, naming what does.
    """
    if len({run.folder.resolve() for run in runs}) < max(2, len(runs)):
        raise ConfigError(f"merge: give two or more different runs, not {' '.join(str(run.folder) for run in runs)}")
    plans = [_plan(run) for run in runs]
    for place, run in enumerate(runs):
        for other, theirs in zip(runs[:place], plans, strict=False):
            if reason := contradicts(theirs, plans[place]) or _other_agent(other, run):
                raise ConfigError(f"{other.folder} and {run.folder} cannot be merged: {reason}")
    plan = reduce(_union, plans)
    first, config = runs[0], _config([run.config for run in runs])
    played = {file: _episodes(plan, file, runs) for file in plan.files}
    lost = missing(plan, played)
    return write_evaluation(
        first.folder.with_name(name),
        config,
        merged_address([run.manifest.address for run in runs]),
        plan,
        played,
        label="merged",
        provider=", ".join(dict.fromkeys(run.manifest.provider or "" for run in runs)),
        facts=imported_facts(first),
        sources=[source for run in runs for source in read_sources(run.folder)],
        parent=first.parent,
        members=runs,
        note=f"{lost} episodes of the plan were not run" if lost else "",
    )


def _plan(run: Run) -> Plan:
    if run.stage != "eval":
        raise ConfigError(f"{run.folder}: is a run of stage {run.stage}, and only evaluations merge")
    return read_plan(run.folder)


def _other_agent(one: Run, other: Run) -> str:
    """The first setting in which two runs have another agent; empty where it is one."""
    mine, theirs = _agent(one), _agent(other)
    for key in {**mine, **theirs}:
        if mine.get(key) != theirs.get(key):
            return f"{key} is {mine.get(key)} and {theirs.get(key)}"
    return ""


def _agent(run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = {"parent": run.parent.manifest.address if run.parent else None}
    facts |= {f"the source of {key}": source for key, source in sources_of(run.manifest.plugins).items()}
    if not (imported := imported_facts(run)):
        facts["seed"] = run.config.seed
    if run.config.policy.kind in (PolicyKind.model, PolicyKind.sglang):
        facts |= {"hardware.dtype": run.config.hardware.dtype.value, **of_torch(run.config)}
    for key in AGENT:
        value: Any = to_data(run.config)
        for part in key.split("."):
            value = value[part]
        settings = value.items() if isinstance(value, dict) else [("", value)]
        facts |= {f"{key}.{name}".rstrip("."): setting for name, setting in settings if name not in NEUTRAL}
    return facts | imported


def _union(one: Plan, other: Plan) -> Plan:
    files = {name: _places(one.files.get(name, ()), other.files.get(name, ())) for name in {**one.files, **other.files}}
    nothing, others = {**one.nothing, **other.nothing}, {**one.others, **other.others}
    return dataclasses.replace(one, nothing=nothing, files=files, others=others)


def _places(mine: Sequence[Place], theirs: Sequence[Place]) -> tuple[Place, ...]:
    """Each trial once, with its seed where either of them tells it."""
    found: dict[tuple[str, int], Place] = {}
    for place in (*mine, *theirs):
        if place.trial not in found or found[place.trial].seed is None:
            found[place.trial] = place
    return tuple(found.values())


def _config(configs: Sequence[Config]) -> Config:
    first = configs[0]
    stages = [config.stage for config in configs if isinstance(config.stage, EvalConfig)]
    domain = dataclasses.replace(
        first.domain,
        names=list(dict.fromkeys(name for config in configs for name in config.domain.names)),
        eval_splits=list(dict.fromkeys(split for config in configs for split in config.domain.eval_splits)),
    )
    stage = dataclasses.replace(
        stages[0],
        samples_per_prompt=max(stage.samples_per_prompt for stage in stages),
        greedy=any(stage.greedy for stage in stages),
    )
    return dataclasses.replace(first, domain=domain, stage=stage)


def _episodes(plan: Plan, file: str, runs: Sequence[Run]) -> list[Trajectory]:
    """In the plan's order; one that only faults ended is kept as it is."""
    found: dict[tuple[str, int], Trajectory] = {}
    for run in runs:
        for key, trajectory in standing(run.trajectories(file)).items():
            known = found.get(key)
            if known is None or (stands(trajectory) and not stands(known)):
                found[key] = trajectory
    return [found[place.trial] for place in plan.files[file] if place.trial in found]
