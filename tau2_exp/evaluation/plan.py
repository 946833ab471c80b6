"""The plan of an evaluation: which episodes it runs, frozen before any is run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import Config, ConfigError, UserConfig, UserKind
from tau2_exp.interfaces import World
from tau2_exp.jsonl import write_json
from tau2_exp.types import GREETING, StopReason

PLAN = "plan.json"  # within a run's folder
OPTIONS = "options"  # of a user of one's own


GREEDY = "-greedy"  # ends the name of a split's file of greedy samples


@dataclass(frozen=True, slots=True)
class Place:
    """One episode to be run."""

    task: str  # Task.key
    sample: int
    seed: int | None  # None where an imported evaluation does not tell

    @property
    def trial(self) -> tuple[str, int]:
        """The task's key and the number of the sample."""
        return self.task, self.sample


@dataclass(frozen=True)
class Plan:
    """Which episodes an evaluation consists of, and with which users. It does not depend on the agent.

    Two evaluations of one plan have the same users on the same tasks.
    """

    revision: str  # of the tasks
    user: dict[str, Any]
    limits: dict[str, int | None]  # None where an imported evaluation does not tell
    nothing: dict[str, float | None]  # of each task: what an agent scores that does nothing; None: cannot be judged
    files: dict[str, tuple[Place, ...]]  # by trajectories file: a split's samples, and its greedy ones
    others: dict[str, str] = field(default_factory=dict)  # by key, a digest of each imported task that is not ours

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the plan as compact JSON."""
        text = json.dumps(encode(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def splits(self) -> list[str]:
        """The names of the splits, each once."""
        return list(dict.fromkeys(name.removesuffix(GREEDY) for name in self.files))

    def freeze(self, folder: Path) -> None:
        """Write the plan into a run folder. Raises ConfigError where the folder holds a different one."""
        path = folder / PLAN
        if not path.exists():
            write_json(path, encode(self))
        elif difference := differs(read_plan(folder), self):
            raise ConfigError(
                f"{path}: the evaluation plan has changed: {difference}; start a new evaluation, without resume="
            )


def read_plan(folder: Path) -> Plan:
    """The plan of a run folder. Raises ConfigError where there is none."""
    path = folder / PLAN
    try:
        plan = decode(Plan, json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no plan of an evaluation ({error})") from None
    own = {key: value for key, value in plan.user.items() if key not in ("kind", "model", OPTIONS)}
    if plan.user.get("kind") != UserKind.custom.value or not own:
        return plan
    return replace(plan, user={"kind": plan.user["kind"], "model": plan.user["model"], OPTIONS: own})  # as it was once


def differs(one: Plan, other: Plan) -> str:
    """The first difference between two plans, in words; empty where they are equal."""
    if reason := contradicts(one, other):
        return reason
    for name in {**one.files, **other.files}:
        mine, theirs = one.files.get(name, ()), other.files.get(name, ())
        if mine != theirs:
            return f"{name} has {len(mine)} episodes here and {len(theirs)} there"
    return ""


def contradicts(one: Plan, other: Plan) -> str:
    """Why two plans cannot be parts of one, in words; empty where they can.

    Revision, user and limits are one; a task of both is the same, and an episode of both (the same file, task and
    sample) has one seed.
    """
    if one.revision != other.revision:
        return f"task revision {one.revision} and {other.revision}"
    for what, mine, theirs in (("user", one.user, other.user), ("limits", one.limits, other.limits)):
        for key in {**mine, **theirs}:
            if mine.get(key) != theirs.get(key):
                return f"{what}: {key} is {mine.get(key)} and {theirs.get(key)}"
    for key in one.nothing.keys() & other.nothing.keys():
        if one.others.get(key) != other.others.get(key):
            return f"{key} is not the same task"
    for name, places in one.files.items():
        seeds = {place.trial: place.seed for place in other.files.get(name, ())}
        for place in places:
            seed = seeds.get(place.trial)
            if None not in (seed, place.seed) and seed != place.seed:
                return f"{name}: {place.task}, sample {place.sample} has seed {place.seed} and {seed}"
    return ""


def user_facts(user: UserConfig) -> dict[str, Any]:
    """The settings that a user's messages depend on, as a plan records them."""
    if user.kind is UserKind.scripted:
        return {"kind": user.kind.value}
    if user.kind is UserKind.custom:
        facts = {"kind": user.kind.value, "model": user.function}
        return facts | ({OPTIONS: user.options} if user.options else {})
    facts = {"kind": user.kind.value, "model": user.model, "temperature": user.temperature}
    return {**facts, "max_tokens": user.max_tokens}


def limit_facts(config: Config) -> dict[str, int | None]:
    """The limits at which an episode ends, as a plan records them; each is a count."""
    domain, rollout = config.domain, config.rollout
    return {
        "max_steps": domain.max_steps,
        "max_errors": domain.max_errors,
        "unparsable_limit": rollout.unparsable_limit,
    }


def score_of_nothing(world: World) -> float | None:
    """The reward, in a fresh world, of doing nothing until the user hangs up; None where it cannot be judged."""
    verdict = world.verdict([*(world.task.history or (GREETING,))], StopReason.USER_STOP)
    return None if verdict.raised else verdict.reward
