"""What rewards, curricula and files of conversations must be, so that there is something to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from tau2_exp.config import (
    READ_BY,
    BranchConfig,
    Config,
    CurriculumKind,
    DomainConfig,
    GrpoConfig,
    PartWeights,
    PointChoice,
    RewardConfig,
    RewardKind,
    SftConfig,
    stages_of,
)
from tau2_exp.config.nearest import suggest
from tau2_exp.domains.rules import SPLITS

_REPORTED = 20  # lines named at once


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    yield from _reward(config)
    curriculum = config.curriculum
    if curriculum.kind is not CurriculumKind.none and curriculum.hard_below > curriculum.easy_above:
        yield f"curriculum.hard_below={curriculum.hard_below}: must be at most easy_above={curriculum.easy_above}"
    for stage, prefix in stages_of(config.stage):
        if isinstance(stage, GrpoConfig):
            yield from _branch(stage.branch, f"{prefix}branch.", config.reward)
        if isinstance(stage, SftConfig) and stage.data:
            yield from _file(stage.data, f"{prefix}data", config.domain)


def _reward(config: Config) -> Iterator[str]:
    reward = config.reward
    if reward.kind not in READ_BY["alpha"] and reward.alpha != 0:
        yield f"reward.alpha={reward.alpha}: reward={reward.kind.value} has no shaping; use reward=shaped, or alpha 0"
    for key in ("turn_discount", "baseline", "anchor", "outcome_over_deviation"):
        value, kinds = getattr(reward, key), [kind.value for kind in READ_BY[key]]
        if reward.kind.value not in kinds and value != getattr(RewardConfig, key):
            yield f"reward.{key}={_shown(value)}: read by reward={'|'.join(kinds)} only, not by {reward.kind.value}"
    by_domain = ((f"domain_weights.{name}", weights) for name, weights in reward.domain_weights.items())
    for key, weights in (("weights", reward.weights), *by_domain):
        if not any(dataclasses.astuple(weights)):
            yield f"reward.{key}: every part weighs 0; give one of them a weight"
    if reward.weights != PartWeights() and set(config.domain.names) <= set(reward.domain_weights):
        name = config.domain.names[0]
        yield f"reward.weights: {name} has weights of its own; set reward.domain_weights.{name}.action=… and the like"
    for key in (*reward.domain_weights, *reward.multipliers):
        if key not in (known := {*SPLITS, *config.domain.names}):
            yield f"reward: {key} is no domain{suggest(key, known)}"


def _shown(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _branch(branch: BranchConfig, prefix: str, reward: RewardConfig) -> Iterator[str]:
    for field in dataclasses.fields(branch):
        value, default = getattr(branch, field.name), field.default
        if value != default and reward.kind is not RewardKind.branch:
            yield f"{prefix}{field.name}={_shown(value)}: read by reward=branch only, not by {reward.kind.value}"
    if branch.threshold != BranchConfig.threshold and branch.choice is not PointChoice.entropy:
        yield f"{prefix}threshold={branch.threshold}: read by {prefix}choice=entropy only; use that, or remove it"
    if reward.kind is RewardKind.branch and reward.credit is not None:
        yield f"reward.credit={reward.credit}: reward=branch credits turns itself; use another reward, or remove it"


def _file(given: str, key: str, domain: DomainConfig) -> Iterator[str]:
    """A prompt brings its own policy document; a trajectory is shown that of its domain, and is of a training task."""
    path = Path(given)
    if not path.is_file():
        yield f"{key}={given}: no such file"
        return
    state = path.stat()
    problem, tasks = _content(path, state.st_size, state.st_mtime_ns)
    if problem:
        yield f"{key}: {problem}"
    for name, lines in tasks.items():
        if name not in domain.names:
            valid = f"use domain={name}, or domain.names=[{','.join([*domain.names, name])}]"
            yield f"{key}: {path}:{min(lines)}: is of {name}, not of domain.names=[{','.join(domain.names)}]; {valid}"
        else:
            yield from _outside(lines, f"{key}: {path}", domain, name)


def _outside(lines: Mapping[int, str], where: str, domain: DomainConfig, name: str) -> Iterator[str]:
    """Of a domain's lines with their tasks, those whose tasks are none to learn from."""
    from tau2_exp.domains import ProviderError, open_domain

    try:
        trained = set(open_domain(domain.provider, name).splits.get(domain.train_split, ()))
    except ProviderError as error:
        yield f"{where}: its tasks cannot be looked up: {error}"
        return
    outside = [number for number, task in lines.items() if task not in trained]
    if not outside:
        return
    places = ", ".join(map(str, outside[:_REPORTED])) + (", …" if len(outside) > _REPORTED else "")
    what = "is of a task" if len(outside) == 1 else f"{len(outside)} lines are of tasks"
    yield (
        f"{where}:{places}: {what} outside domain.train_split={domain.train_split} of {name} "
        f"({lines[outside[0]]}); remove what is not to be learned from"
    )


@cache
def _content(path: Path, size: int, time: int) -> tuple[str, dict[str, dict[int, str]]]:
    """What is wrong with a file's lines; by domain, the task of each line that is a trajectory.

    Read once, however often it is asked.
    """
    from tau2_exp.learning.sft_data import read_sft_file
    from tau2_exp.types import Trajectory

    tasks: dict[str, dict[int, str]] = {}
    try:
        for number, content in read_sft_file(path):
            if isinstance(content, Trajectory):
                tasks.setdefault(content.domain, {})[number] = content.task
    except (ValueError, OSError) as error:
        return str(error), {}
    return "", tasks
