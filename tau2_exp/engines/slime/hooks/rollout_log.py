"""What a rollout of slime's leaves in the run's folder: a line of metrics, its trajectories, how far the run is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import GrpoConfig, RftConfig, SftConfig
from tau2_exp.engines.slime.hooks.context import Context
from tau2_exp.engines.slime.hooks.credit import learned
from tau2_exp.engines.slime.hooks.groups import scored
from tau2_exp.engines.slime.hooks.samples import by_group
from tau2_exp.learning.advantage import credit_metrics, step_scale
from tau2_exp.learning.metrics import ROLLOUTS, grpo_label, rollout_metrics
from tau2_exp.rollouts.rollout import check_faults
from tau2_exp.runs.progress import Progress


def tell(
    args: Any, context: Context, rollout_id: int, samples: Sequence[Any], extra: dict[str, Any] | None, seconds: float
) -> None:
    """Record rollout `rollout_id` as step `rollout_id` + 1, by the names that the torch engine's steps have.

    Told are all episodes of the groups that ended since the last step, trained on (`samples`) or not. The state of
    the data source is saved for the checkpoint that this step may leave. Raises RuntimeError where every episode
    ended in a fault.
    """
    if context.trains_on_episodes:
        metrics = _episodes(context, rollout_id, samples)
    else:
        metrics = {"rows": len(samples), "tokens": sum(sum(sample.loss_mask) for sample in samples)}
    context.run.log({**metrics, "rollout_seconds": seconds, **(extra or {})}, rollout_id + 1)
    _progress(context, rollout_id + 1, metrics)
    if context.trains_on_episodes and args.save is not None:
        context.save(args.save, rollout_id)


def rewind(context: Context, step: int) -> None:
    """Remove what was recorded after `step`, from which training continues."""
    context.run.rewind(step)
    if context.trains_on_episodes:
        context.run.write_trajectories(ROLLOUTS, keep=context.groups.episodes).close()
    context.began, context.clock = step, time.monotonic()


def _episodes(context: Context, rollout_id: int, samples: Sequence[Any]) -> dict[str, Any]:
    groups = context.groups
    trained = by_group(samples)
    ended = groups.step(len(trained), drop=not context.config.engine.slime.asynchronous)
    trajectories = [episode.trajectory for group in ended for episode in group]
    with context.run.write_trajectories(ROLLOUTS) as file:
        for trajectory in trajectories:
            file.write(trajectory)
    check_faults(trajectories, f"grpo step {rollout_id + 1}")
    credits = learned(context, trained)
    pairs = [(e.trajectory, e.reward) for e in scored(ended) if e.reward is not None]
    return rollout_metrics(len(credits), pairs, trajectories) | credit_metrics(credits, step_scale(credits))


def _progress(context: Context, step: int, metrics: dict[str, Any]) -> None:
    stage, seconds = context.config.stage, time.monotonic() - context.clock
    if isinstance(stage, GrpoConfig):
        label, total = grpo_label(context.config.reward), stage.steps
        values = {"reward": metrics["outcome"], "shaped": metrics["shaped"]}
    else:
        assert isinstance(stage, (SftConfig, RftConfig))
        label, total = f"{stage.name} training", stage.epochs * -(-len(context.rows) // stage.batch_size)
        values = {}
    Progress(label, step, total, context.began, seconds, values).write(context.run.folder)
