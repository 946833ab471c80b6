"""One sample of slime's is one episode of ours: run by the one loop there is, against slime's router."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.hooks import samples
from tau2_exp.engines.slime.hooks.context import Context
from tau2_exp.engines.slime.hooks.samples import Episode
from tau2_exp.learning.reward import score
from tau2_exp.rollouts.rollout import play_without_fault
from tau2_exp.types import EpisodeSpec, Fault, FaultSource, Sampling, Trajectory, stable_seed

LOOK_EVERY = 0.5  # seconds between looks at whether slime has ended the rollout


async def play(args: Any, context: Context | None, sample: Any, sampling_params: dict[str, Any], evaluation: bool):
    """Run the episode of `sample`, and write it there. Raises nothing: an exception would end the job."""
    samples.clear(sample)
    try:
        if context is None:
            raise ConfigError("--custom-config-path names no tau2_exp_run")
        trajectory = await _unless_ended(args, context, sample, _sampling(context, sampling_params))
        if trajectory is None:
            samples.end(sample)
            return
        if trajectory.scored:
            episode = Episode(trajectory, score(trajectory, context.config.reward))
            samples.write(args, sample, episode, context.tokenizer, evaluation)
    except Exception as error:
        trajectory = samples.unplayed(sample, Fault(FaultSource.ENGINE, f"{type(error).__name__}: {error}"))
    if not trajectory.scored:
        samples.mark_faulted(sample, trajectory)
    if context is not None and context.trains_on_episodes and not evaluation:
        context.groups.note(sample.group_index, sample.index, sample.metadata[samples.KEY])


async def _unless_ended(args: Any, context: Context, sample: Any, sampling: Sampling) -> Trajectory | None:
    """The episode's trajectory; None where slime ended the rollout first.

    slime ends a rollout once it has enough groups, and then waits for all episodes to end: whatever an episode waits
    for (a generation, an LLM that is the user), it is given up at once and not tried again.
    """
    url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}"
    policy = context.setting.token_policy(context.generator(url), context.tokenizer, sampling)
    episode = asyncio.ensure_future(play_without_fault(context.setting.episode_setting, policy, _spec(context, sample)))
    try:
        while not episode.done():
            await asyncio.wait({episode}, timeout=LOOK_EVERY)
            if _ended(args) and not (episode.done() and episode.result().scored):
                return None
        return episode.result()
    finally:
        episode.cancel()
        await asyncio.wait({episode})


def _spec(context: Context, sample: Any) -> EpisodeSpec:
    task, index = context.task(samples.task_key(sample)), sample.index or 0
    number = index % getattr(context.config.stage, "samples_per_prompt", 1)
    return EpisodeSpec(task, number, stable_seed(context.config.seed, "slime", task.key, index), index)


def _sampling(context: Context, params: dict[str, Any]) -> Sampling:
    """slime's own sampling arguments, which its trainer assumes too; a turn's bound is the model's own."""
    return Sampling(
        temperature=params.get("temperature", 1.0),
        top_p=params.get("top_p", 1.0),
        top_k=max(0, params.get("top_k", 0)),
        max_tokens=context.config.model.max_new_tokens,
    )


def _ended(args: Any) -> bool:
    """Whether slime has ended this rollout. Its own rollout function, where that is what runs, holds the mark."""
    rollout = sys.modules.get("slime.rollout.sglang_rollout")
    return rollout is not None and rollout.GenerateState(args).aborted
