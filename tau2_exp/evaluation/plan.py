"""An evaluation as data: the plan that is frozen before it is played, and the numbers of what was played."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import Config, ConfigError, EvalConfig, PolicyKind, UserConfig, UserKind
from tau2_exp.interfaces import World
from tau2_exp.jsonl import write_json
from tau2_exp.statistics import Measure, Samples, estimate
from tau2_exp.types import GREETING, StopReason, Trajectory, Usage

PLAN = "plan.json"  # within a run's folder
GREEDY = "-greedy"  # ends the name of a split's file of greedy samples

Played = Mapping[str, Sequence[Trajectory]]  # by the file that they are in


@dataclass(frozen=True, slots=True)
class Place:
    """One episode to be played."""

    task: str  # Task.key
    sample: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """Which episodes an evaluation consists of, and whom the agent meets in them. It knows nothing of the agent.

    Two evaluations of one plan meet the same users on the same tasks.
    """

    revision: str  # of the tasks
    user: dict[str, Any]
    limits: dict[str, int]
    nothing: dict[str, float]  # of each task: what an agent scores that does nothing
    files: dict[str, tuple[Place, ...]]  # by trajectories file: a split's samples, and its greedy ones

    @property
    def digest(self) -> str:
        text = json.dumps(encode(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(name.removesuffix(GREEDY) for name in self.files))

    def freeze(self, folder: Path) -> None:
        """Write the plan. Raises ConfigError where the folder holds another: the tasks are no longer what they were."""
        path = folder / PLAN
        if not path.exists():
            write_json(path, encode(self))
        elif difference := differs(read_plan(folder), self):
            raise ConfigError(f"{path}: the run's plan no longer holds: {difference}; evaluate anew, without resume=")


def read_plan(folder: Path) -> Plan:
    """The plan of a run folder. Raises ConfigError where there is none."""
    path = folder / PLAN
    try:
        return decode(Plan, json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no plan of an evaluation ({error})") from None


def differs(one: Plan, other: Plan) -> str:
    """The first thing in which two plans differ, in words; empty where they are one."""
    if reason := contradicts(one, other):
        return reason
    for name in {**one.files, **other.files}:
        mine, theirs = one.files.get(name, ()), other.files.get(name, ())
        if mine != theirs:
            return f"{name} has {len(mine)} episodes here and {len(theirs)} there"
    return ""


def contradicts(one: Plan, other: Plan) -> str:
    """Why two plans cannot be parts of one, in words; empty where they can.

    Revision, user and limits are one; an episode of both (the same file, task and sample) has one seed.
    """
    if one.revision != other.revision:
        return f"task revision {one.revision} and {other.revision}"
    for what, mine, theirs in (("user", one.user, other.user), ("limits", one.limits, other.limits)):
        for key in {**mine, **theirs}:
            if mine.get(key) != theirs.get(key):
                return f"{what}: {key} is {mine.get(key)} and {theirs.get(key)}"
    for name, places in one.files.items():
        seeds = {(place.task, place.sample): place.seed for place in other.files.get(name, ())}
        for place in places:
            if (seed := seeds.get((place.task, place.sample), place.seed)) != place.seed:
                return f"{name}: {place.task}, sample {place.sample} has seed {place.seed} and {seed}"
    return ""


def user_facts(user: UserConfig) -> dict[str, Any]:
    """What of a user's settings shapes what it says."""
    if user.kind is UserKind.scripted:
        return {"kind": user.kind.value}
    facts = {"kind": user.kind.value, "model": user.model, "temperature": user.temperature}
    return {**facts, "max_tokens": user.max_tokens}


def limit_facts(config: Config) -> dict[str, int]:
    domain, rollout = config.domain, config.rollout
    return {
        "max_steps": domain.max_steps,
        "max_errors": domain.max_errors,
        "unparsable_limit": rollout.unparsable_limit,
    }


def policy_name(config: Config) -> str:
    """What a policy calls itself, by its settings."""
    policy = config.policy
    if policy.kind is PolicyKind.oracle:
        return f"oracle-{policy.oracle.value}"
    return str(policy.model) if policy.kind is PolicyKind.litellm else config.model.name


def evaluation_results(config: Config, provider: str, plan: Plan, played: Played) -> dict[str, Any]:
    """What results.json holds. `provider` names who brings the tasks, and their revision."""
    stage = config.stage
    assert isinstance(stage, EvalConfig)
    return {
        "policy": policy_name(config),
        "user": " ".join(str(plan.user[key]) for key in ("kind", "model") if plan.user.get(key)),
        "provider": provider,
        "temperature": stage.temperature,
        "plan": plan.digest,
        "splits": split_results(plan, played),
    }


def score_of_nothing(world: World) -> float:
    """What an agent scores in a fresh world that lets the user hang up."""
    return world.verdict([*(world.task.history or (GREETING,))], StopReason.USER_STOP).reward


def missing(plan: Plan, played: Played) -> int:
    """How many episodes of the plan are still to be played."""
    return sum(len(places) - len(played.get(name, ())) for name, places in plan.files.items())


def split_results(plan: Plan, played: Played) -> dict[str, dict[str, Any]]:
    """The numbers of each split, and where it spans domains, of each domain in it ("retail test")."""
    domains = list(dict.fromkeys(task.partition("/")[0] for task in plan.nothing))
    results: dict[str, dict[str, Any]] = {}
    for split in plan.splits:
        results[split] = _results(plan, played, split, "")
        for name in domains if len(domains) > 1 else []:
            if any(place.task.startswith(f"{name}/") for place in _places(plan, split)):
                results[f"{name} {split}"] = _results(plan, played, split, f"{name}/")
    return results


def _results(plan: Plan, played: Played, split: str, prefix: str) -> dict[str, Any]:
    """One split's numbers, and what they were computed from: the outcome of each scored sample of each task."""
    wanted, greedy_wanted = (
        Counter(place.task for place in plan.files.get(name, ()) if place.task.startswith(prefix))
        for name in (split, split + GREEDY)
    )
    several, greedy = (
        [t for t in played.get(name, ()) if t.key.startswith(prefix)] for name in (split, split + GREEDY)
    )
    tasks = wanted or greedy_wanted
    samples = min(wanted.values(), default=0)
    by_task, greedy_by_task = _outcomes(wanted, several), _outcomes(greedy_wanted, greedy)
    measures: dict[str, Any] = {}
    if greedy_wanted:
        measures["greedy pass@1"] = _measure(greedy_by_task, Measure.PASS_AT, 1, greedy_wanted)
    for k in sorted({1, samples}) if samples else []:
        for measure in Measure if k > 1 else [Measure.PASS_AT]:
            measures[f"{measure.value}{k}"] = _measure(by_task, measure, k, wanted)
    nothing = {task: [plan.nothing[task]] for task in tasks}
    return {
        "tasks": len(tasks),
        "samples_per_prompt": samples,
        "measures": measures,
        "nothing": _measure(nothing, Measure.PASS_AT, 1, dict.fromkeys(nothing, 1)),
        "outcomes": by_task,
        "greedy_outcomes": greedy_by_task,
        "stops": dict(Counter(t.stop.value for t in several)),
        "faults": dict(Counter(t.fault.source.value for t in [*greedy, *several] if t.fault)),
        "turns": sum(len(t.turns) for t in several) / max(len(several), 1),
        "policy_usage": _sum([t.policy_usage for t in [*greedy, *several]]),
        "user_usage": _sum([t.user_usage for t in [*greedy, *several]]),
    }


def _places(plan: Plan, split: str) -> tuple[Place, ...]:
    return plan.files.get(split, ()) + plan.files.get(split + GREEDY, ())


def _outcomes(tasks: Mapping[str, int], trajectories: Sequence[Trajectory]) -> dict[str, list[float]]:
    """Only what was scored: a fault that is not the agent's is a missing sample, not a failed one."""
    outcomes: dict[str, list[float]] = {task: [] for task in tasks}
    for t in trajectories:
        if t.scored:
            outcomes[t.key].append(t.outcome)
    return outcomes


def _measure(samples: Samples, measure: Measure, k: int, wanted: Mapping[str, int]) -> dict[str, Any]:
    """An estimate as JSON; where samples are missing there is no number, but how many are missing."""
    lost = sum(max(count - len(samples[task]), 0) for task, count in wanted.items())
    if lost:
        return {"value": None, "missing": lost, "tasks": len(samples)}
    return dataclasses.asdict(estimate(samples, measure, k))


def _sum(usages: Sequence[Usage]) -> dict[str, Any]:
    return dataclasses.asdict(sum(usages, Usage()))
