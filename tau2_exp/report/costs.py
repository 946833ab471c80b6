"""The cost of each run: time, steps, episodes, tokens, dollars. What was not recorded is None, not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tau2_exp.report.arms import lineage
from tau2_exp.report.collect import Collection
from tau2_exp.report.trials import Found
from tau2_exp.runs.run import RunStatus


@dataclass(frozen=True)
class Cost:
    """The cost of one run. Episodes, tokens and dollars are those of the run itself, not of its ancestors."""

    run: str
    stage: str
    arm: str
    seed: str
    status: str
    seconds: float | None  # that workers spent on it; those of a killed attempt are not counted
    steps: int | None
    episodes: int | None
    policy_tokens: int | None  # prompt and completion
    user_tokens: int | None
    dollars: float | None  # None: unknown


def costs(collection: Collection) -> list[Cost]:
    """The cost of each run, pipelines aside, in the order of making: each stage, then its model's evaluation."""
    runs = [found for found in collection.runs if found.run.stage != "pipeline"]
    runs.sort(key=lambda f: (len(lineage(f.run)) - (f.run.stage == "eval"), f.run.stage == "eval", f.arm, f.seed))
    return [_cost(found) for found in runs]


def _cost(found: Found) -> Cost:
    run = found.run
    results = run.results if run.status is RunStatus.finished else {}
    lines = run.metrics()
    steps = lines[-1]["step"] if lines and run.stage not in ("eval", "demos") else None
    episodes, policy, user, dollars = _played(results) if run.stage == "eval" and results else (None, None, None, None)
    if run.stage == "grpo":
        episodes = sum(line.get("episodes", 0) for line in lines)
    elif episodes is None:
        episodes = results.get("samples", results.get("trajectories"))
    stage = run.stage if run.stage == found.stage else f"{run.stage} of {found.stage}"
    seconds = run.manifest.seconds or None
    return Cost(
        run.folder.name,
        stage,
        found.arm,
        found.seed,
        run.status.value,
        seconds,
        steps,
        episodes,
        policy,
        user,
        dollars,
    )


def _played(results: dict[str, Any]) -> tuple[int | None, int | None, int | None, float | None]:
    """Episodes, tokens and dollars of an evaluation: of its splits, whose domains are listed beside them.

    Dollars are all that the run spent, where it was noted: also on episodes that a budget cut short.
    """
    splits = [result for name, result in results["splits"].items() if " " not in name]
    episodes = sum(sum(map(len, r["outcomes"].values())) + sum(map(len, r["greedy_outcomes"].values())) for r in splits)
    tokens = [
        sum(r[side]["prompt_tokens"] + r[side]["completion_tokens"] for r in splits)
        for side in ("policy_usage", "user_usage")
    ]
    told = [results["spent"]] if "spent" in results else [r[s] for r in splits for s in ("policy_usage", "user_usage")]
    spent = [usage["dollars"] for usage in told]
    return episodes, tokens[0], tokens[1], None if None in spent else sum(spent)
