"""The numbers of an evaluation: what results.json holds of the episodes that were run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tau2_exp.config import Config, EvalConfig, PolicyKind
from tau2_exp.evaluation.plan import GREEDY, Place, Plan
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.statistics import Measure, Samples, estimate
from tau2_exp.types import Trajectory, Usage

AGENT = "agent"  # the key of who was played elsewhere, in results of imported evaluations alone
Played = Mapping[str, Sequence[Trajectory]]  # by the file that they are in


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


def imported_facts(run: Run) -> dict[str, Any]:
    """What an imported evaluation's results hold over its settings: its agent and temperature, as its files tell."""
    if run.status is not RunStatus.finished or AGENT not in (results := run.results):
        return {}
    return {key: results[key] for key in ("policy", "temperature", AGENT)}


def policy_name(config: Config) -> str:
    """The policy's name by its settings, as results show it."""
    policy = config.policy
    if policy.kind is PolicyKind.oracle:
        return f"oracle-{policy.oracle.value}"
    if policy.function is not None:
        return policy.function
    return str(policy.model) if policy.kind is PolicyKind.litellm else config.model.name


def missing(plan: Plan, played: Played) -> int:
    """How many episodes of the plan are still to be run."""
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
    nothing = {task: [score] if (score := plan.nothing[task]) is not None else [] for task in tasks}
    return {
        "tasks": len(tasks),
        "samples_per_prompt": samples,
        "measures": measures,
        "nothing": _measure(nothing, Measure.PASS_AT, 1, dict.fromkeys(nothing, 1)),
        "outcomes": by_task,
        "greedy_outcomes": greedy_by_task,
        "stops": dict(Counter(t.stop.value for t in several)),
        "faults": dict(Counter(t.fault.source.value for t in [*greedy, *several] if t.fault)),
        "unevaluated": sum(not t.scored and not t.fault for t in [*greedy, *several]),
        "truncated": _truncated([*greedy, *several]),
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


def _truncated(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """Turns that were cut at their bound of tokens, and the episodes that have one."""
    cut = [count for t in trajectories if (count := sum(turn.truncated for turn in t.turns))]
    return {"turns": sum(cut), "episodes": len(cut)}


def _sum(usages: Sequence[Usage]) -> dict[str, Any]:
    return dataclasses.asdict(sum(usages, Usage()))
