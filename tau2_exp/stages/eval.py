"""Evaluation: every task of every split, greedy and sampled, beside what doing nothing scores."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import EvalConfig
from tau2_exp.report import evaluation_table
from tau2_exp.rundir import Run
from tau2_exp.stages.speakers import make_speaker
from tau2_exp.stages.studio import Studio, check_faults
from tau2_exp.statistics import Measure, Samples, estimate
from tau2_exp.types import GREETING, Policy, Sampling, StopReason, Task, Trajectory, Usage


async def evaluate(run: Run) -> None:
    studio, stage = Studio(run), run.config.stage
    assert isinstance(stage, EvalConfig)
    speaker = make_speaker(studio)
    sampling = Sampling(stage.temperature, stage.top_p, stage.top_k, run.config.model.max_new_tokens)
    sampled, argmax = speaker(sampling), speaker(dataclasses.replace(sampling, temperature=0.0))
    splits: dict[str, Any] = {}
    for split in run.config.domain.eval_splits:
        tasks = studio.tasks(split)
        greedy = await _play(studio, argmax, tasks, 1, f"{split}-greedy") if stage.greedy else []
        several = await _play(studio, sampled, tasks, stage.samples_per_prompt, split)
        splits |= _by_domain(studio, split, tasks, greedy, several, stage.samples_per_prompt)
    results = {
        "policy": sampled.name,
        "user": studio.user_name,
        "provider": studio.provider,
        "temperature": stage.temperature,
        "splits": splits,
    }
    run.log({f"{split} {name}": e["value"] for split, r in splits.items() for name, e in r["measures"].items()}, step=0)
    run.finish(results, evaluation_table([(_label(run), results)]))


async def _play(studio: Studio, policy: Policy, tasks: Sequence[Task], samples: int, name: str) -> list[Trajectory]:
    trajectories = await studio.collect(name, policy, studio.seats(tasks, samples, f"eval {name}"))
    check_faults(trajectories, name)
    return trajectories


def _by_domain(
    studio: Studio,
    split: str,
    tasks: Sequence[Task],
    greedy: Sequence[Trajectory],
    several: Sequence[Trajectory],
    samples: int,
) -> dict[str, Any]:
    """The split's results, and where it spans domains, those of each."""
    results = {split: _results(studio, tasks, greedy, several, samples)}
    names = list(studio.domains) if len(studio.domains) > 1 else []
    for name in names:
        own = [task for task in tasks if task.domain == name]
        results[f"{name} {split}"] = _results(studio, own, _of(name, greedy), _of(name, several), samples)
    return results


def _of(domain: str, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return [t for t in trajectories if t.domain == domain]


def _results(
    studio: Studio, tasks: Sequence[Task], greedy: Sequence[Trajectory], several: Sequence[Trajectory], samples: int
) -> dict[str, Any]:
    """One split's numbers, and what they were computed from: the outcome of each scored sample of each task."""
    keys = [task.key for task in tasks]
    by_task, greedy_by_task = _outcomes(keys, several), _outcomes(keys, greedy)
    nothing = {task.key: [_nothing(studio, task)] for task in tasks}
    measures = {"pass@1": _measure(by_task, Measure.PASS_AT, 1, samples)}
    if greedy:
        measures = {"greedy pass@1": _measure(greedy_by_task, Measure.PASS_AT, 1, 1)} | measures
    if samples > 1:
        for measure in Measure:
            measures[f"{measure.value}{samples}"] = _measure(by_task, measure, samples, samples)
    return {
        "tasks": len(tasks),
        "samples_per_prompt": samples,
        "measures": measures,
        "nothing": _measure(nothing, Measure.PASS_AT, 1, 1),
        "outcomes": by_task,
        "greedy_outcomes": greedy_by_task,
        "stops": dict(Counter(t.stop.value for t in several)),
        "faults": dict(Counter(t.fault.source.value for t in [*greedy, *several] if t.fault)),
        "turns": sum(len(t.turns) for t in several) / max(len(several), 1),
        "policy_usage": _usage([t.policy_usage for t in [*greedy, *several]]),
        "user_usage": _usage([t.user_usage for t in [*greedy, *several]]),
    }


def _outcomes(keys: Sequence[str], trajectories: Sequence[Trajectory]) -> dict[str, list[float]]:
    """Only what was scored: a fault that is not the agent's is a missing sample, not a failed one."""
    outcomes: dict[str, list[float]] = {key: [] for key in keys}
    for t in trajectories:
        if t.scored:
            outcomes[t.key].append(t.outcome)
    return outcomes


def _measure(samples: Samples, measure: Measure, k: int, wanted: int) -> dict[str, Any]:
    """An estimate as JSON; where samples are missing there is no number, but how many are missing."""
    missing = sum(max(wanted - len(outcomes), 0) for outcomes in samples.values())
    if missing:
        return {"value": None, "missing": missing, "tasks": len(samples)}
    return dataclasses.asdict(estimate(samples, measure, k))


def _nothing(studio: Studio, task: Task) -> float:
    """What an agent scores that lets the user hang up."""
    world = studio.scene.world(task)
    return world.verdict([*(task.history or (GREETING,))], StopReason.USER_STOP).reward


def _usage(usages: Sequence[Usage]) -> dict[str, float]:
    return dataclasses.asdict(sum(usages, Usage()))


def _label(run: Run) -> str:
    return run.parent.stage if run.parent else run.config.policy.kind.value
