"""RFT's samples: drawn from the parent's model, filtered, and turned into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

from tau2_exp.config import ConfigError, RewardConfig, RewardKind, RftConfig
from tau2_exp.evaluation.standing import standing
from tau2_exp.learning.batch import rows_from_trajectory
from tau2_exp.learning.reward import score
from tau2_exp.learning.selection import select_rft
from tau2_exp.rollouts.rollout import check_faults
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import PolicyFactory
from tau2_exp.types import Row, Sampling, Trajectory

SAMPLES = "samples"  # the file of trajectories


async def draw_samples(context: StageContext, policy_of: PolicyFactory, again: bool = True) -> list[Trajectory]:
    """The episodes of each training task, `samples_per_prompt` times; those of a killed attempt are kept.

    `again`: whether those that faults ended are run again. Once they are trained on they must stay as they are: another
    number of rows would be another order of them.
    """
    stage = context.config.stage
    assert isinstance(stage, RftConfig)
    tasks = context.tasks(context.config.domain.train_split)
    sampling = Sampling(stage.temperature, stage.top_p, stage.top_k, context.config.model.max_new_tokens)
    specs = context.specs(tasks, stage.samples_per_prompt, SAMPLES)
    if again:
        samples = await context.collect(SAMPLES, policy_of(sampling), specs)
    else:
        recorded = standing(context.run.trajectories(SAMPLES))
        samples = [recorded[key] for spec in specs if (key := (spec.task.key, spec.sample)) in recorded]
    check_faults(samples, "rft samples")
    return samples


def kept_samples(samples: Sequence[Trajectory], stage: RftConfig, reward: RewardConfig) -> list[Trajectory]:
    """The samples that pass the filter. Raises ConfigError where none does.

    A premature ending has no partial score, as in the reference, whatever GRPO's reward will be: arms share their RFT.
    """
    reward = replace(reward, kind=RewardKind.shaped)
    groups = {key: list(group) for key, group in groupby(samples, key=lambda t: t.key)}
    kept = select_rft(groups, stage.keep_reward, stage.keep_partial, partial(score, config=reward))
    solved = sum(t.outcome >= stage.keep_reward for t in samples if t.scored)
    if not kept:
        raise ConfigError(_nothing_kept(samples, stage, reward))
    print(f"rft: kept {len(kept)} of {len(samples)} samples ({solved} solved) from {len({t.key for t in kept})} tasks")
    return kept


def rft_rows(kept: Sequence[Trajectory]) -> list[Row]:
    """A row for each kept sample, with advantage 1 in every turn; turns that could not be parsed are not trained."""
    return [rows_from_trajectory(t, [1.0] * len(t.turns), unparsable=False) for t in kept]


def rft_summary(samples: Sequence[Trajectory], kept: Sequence[Trajectory]) -> dict[str, int]:
    """The counts of samples in a run's results."""
    return {"samples": len(samples), "kept": len(kept), "tasks": len({t.key for t in kept})}


def _nothing_kept(samples: Sequence[Trajectory], stage: RftConfig, reward: RewardConfig) -> str:
    scores = [score(t, reward) for t in samples if t.scored]
    outcome, partial_score = max(s.outcome for s in scores), max(s.partial for s in scores)
    return (
        f"keep_reward={stage.keep_reward:g} keep_partial={stage.keep_partial:g}: RFT keeps none of {len(samples)} "
        f"samples (best reward {outcome:g}, best partial score {partial_score:.2f}); raise SFT's epochs or RFT's "
        "samples_per_prompt, or lower keep_partial"
    )
