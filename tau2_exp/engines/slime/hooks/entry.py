"""What slime calls, by its path: `tau2_exp.engines.slime.hooks.entry.NAME`. Each is thin over the module that knows.

    --data-source-path                   DataSource
    --custom-generate-function-path      generate
    --custom-reward-post-process-path    post_process_rewards
    --dynamic-sampling-filter-path       filter_group
    --custom-advantage-function-path     turn_advantages       (where turns are credited differently)
    --custom-rollout-log-function-path   log_rollout
    --rollout-function-path              sft_rollout           (sft and rft; else slime's own)

All settings are read from the folder that `tau2_exp_run` names, the one key of --custom-config-path. Names and order
of the arguments are slime's. Nothing of slime is imported before it calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tau2_exp.engines.slime.hooks import credit, episodes, rollout_log, rows
from tau2_exp.engines.slime.hooks.context import open_context
from tau2_exp.engines.slime.hooks.data_source import DataSource as DataSource


async def generate(args: Any, sample: Any, sampling_params: dict[str, Any], evaluation: bool = False) -> Any:
    """Run the episode of one sample. A fault takes the sample out of its group; nothing is raised."""
    await episodes.play(args, open_context(args), sample, sampling_params, evaluation)
    return sample


def post_process_rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """(raw rewards, advantages) of a rollout's samples, one number each, relative to the group of each."""
    return credit.post_process(open_context(args), samples)


def filter_group(args: Any, samples: Sequence[Any], **kwargs: Any) -> Any:
    """Keep a group that has signal; one without is refused up to the bound of stage.refill."""
    from slime.rollout.filter_hub.base_types import DynamicFilterOutput

    context = open_context(args)
    reason = credit.teaches(context, samples)
    if reason is None or (context is not None and not context.refuse()):
        return DynamicFilterOutput(keep=True)
    return DynamicFilterOutput(keep=False, reason=reason)


def turn_advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Set `advantages` and `returns` of each token, in the trainer."""
    credit.set_advantages(args, rollout_data)


def log_rollout(
    rollout_id: int,
    args: Any,
    samples: Sequence[Any],
    rollout_extra_metrics: dict[str, Any] | None,
    rollout_time: float,
) -> bool:
    """Record a rollout in the run's folder. Returns False, so that slime logs its own figures (speed, lengths) too."""
    args.logged_rollout_id = rollout_id  # where slime's contract test looks for it
    context = open_context(args)
    if context is not None:
        rollout_log.tell(args, context, rollout_id, samples, rollout_extra_metrics, rollout_time)
    return False


def sft_rollout(args: Any, rollout_id: int, data_source: Any, evaluation: bool = False) -> Any:
    """The rows of one supervised step. They follow from `rollout_id` alone, so a restart goes on where it was."""
    from slime.rollout.base_types import RolloutFnTrainOutput

    return RolloutFnTrainOutput(samples=rows.batch(args, open_context(args), rollout_id, evaluation))
