"""Evaluation: every task of every split, greedy and sampled, by a plan that is frozen first."""

from __future__ import annotations

import dataclasses
from typing import Any

from tau2_exp.config import Config, ConfigError, EvalConfig, PolicyKind, UserKind
from tau2_exp.evaluation.plan import GREEDY, Place, Plan, limit_facts, score_of_nothing, user_facts
from tau2_exp.evaluation.scores import Played, evaluation_results, missing
from tau2_exp.evaluation.table import evaluation_table
from tau2_exp.llm.budget import Budget, spoken
from tau2_exp.llm.client import has_price
from tau2_exp.rollouts.rollout import check_faults
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import make_policy_factory
from tau2_exp.stages.policy_server import policy_server
from tau2_exp.system.quoting import setting
from tau2_exp.types import EpisodeSpec, Sampling, Trajectory


async def evaluate(run: Run) -> None:
    """Run an evaluation and finish the run. Raises ConfigError where the budget is reached before the plan is done."""
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, EvalConfig)
    _check_prices(run.config, stage)
    specs = _seats(context, stage)
    plan = _plan(context, specs)
    plan.freeze(run.folder)
    with policy_server(context):
        played = await _play(context, stage, specs)
    results = evaluation_results(run.config, context.provider, plan, played)
    table = evaluation_table([(_label(run), results)])
    if budget := context.account.budget:
        budget.close()
        results["spent"] = dataclasses.asdict(budget.spent)
        if missing(plan, played):
            print(table, flush=True)
            raise ConfigError(_reached(run, stage, budget, plan, played))
    if missing(plan, {name: [t for t in each if t.scored] for name, each in played.items()}):
        table += f"\nto retry the episodes lost to faults: {setting('resume', run.folder)}"
    run.rewind(-1)  # what an attempt that lost samples told
    run.log(_values(results), step=0)
    run.finish(results, table)


async def _play(context: StageContext, stage: EvalConfig, specs: dict[str, list[EpisodeSpec]]) -> Played:
    policy_of = make_policy_factory(context)
    sampling = Sampling(stage.temperature, stage.top_p, stage.top_k, context.config.model.max_new_tokens)
    sampled, argmax = policy_of(sampling), policy_of(dataclasses.replace(sampling, temperature=0.0))
    played: dict[str, list[Trajectory]] = {}
    for name, places in specs.items():
        played[name] = await context.collect(name, argmax if name.endswith(GREEDY) else sampled, places)
        check_faults(played[name], name)
    return played


def _seats(context: StageContext, stage: EvalConfig) -> dict[str, list[EpisodeSpec]]:
    """By trajectories file; the seeds are of the run's seed, file, task and sample, and of no policy."""
    specs: dict[str, list[EpisodeSpec]] = {}
    for split in context.config.domain.eval_splits:
        tasks = context.tasks(split)
        for name, samples in ((split + GREEDY, int(stage.greedy)), (split, stage.samples_per_prompt)):
            if samples:
                specs[name] = context.specs(tasks, samples, f"eval {name}")
    return specs


def _plan(context: StageContext, specs: dict[str, list[EpisodeSpec]]) -> Plan:
    tasks = {spec.task.key: spec.task for places in specs.values() for spec in places}
    return Plan(
        revision=context.run.manifest.revision,
        user=user_facts(context.config.user),
        limits=limit_facts(context.config),
        nothing={key: score_of_nothing(context.episode_setting.world(task)) for key, task in tasks.items()},
        files={
            name: tuple(Place(spec.task.key, spec.sample, spec.seed) for spec in places)
            for name, places in specs.items()
        },
    )


def _check_prices(config: Config, stage: EvalConfig) -> None:
    """A bound in dollars can be held only where every model asked has a price."""
    if stage.budget_dollars is None:
        return
    asked = [config.user.model] if config.user.kind is UserKind.litellm else []
    asked += [config.policy.model] if config.policy.kind is PolicyKind.litellm else []
    for model in asked:
        if model and not has_price(model):
            raise ConfigError(
                f"stage.budget_dollars={stage.budget_dollars:g}: litellm lists no price for {model}; "
                "use stage.budget_tokens instead"
            )


def _reached(run: Run, stage: EvalConfig, budget: Budget, plan: Plan, played: Played) -> str:
    dollars, tokens = stage.budget_dollars, stage.budget_tokens
    given = [f"stage.budget_dollars={dollars:g}"] if dollars is not None else []
    given += [f"stage.budget_tokens={tokens}"] if tokens is not None else []
    total = sum(map(len, plan.files.values()))
    asking = f"the next request may take {spoken(budget.refused)} more; " if budget.refused else ""
    more = f"{setting('resume', run.folder)} {given[0].partition('=')[0]}=…"
    return (
        f"{' '.join(given)}: reached: spent {spoken(budget.spent)}; {asking}{total - missing(plan, played)} of {total} "
        f"episodes are done; to continue with a larger budget: {more}"
    )


def _values(results: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{split} {name}": e["value"] for split, r in results["splits"].items() for name, e in r["measures"].items()
    }


def _label(run: Run) -> str:
    return run.parent.stage if run.parent else run.config.policy.kind.value
