"""RFT: sample each training task several times, keep what succeeded, and train on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from tau2_exp.batch import rows_from_trajectory, select_rft
from tau2_exp.config import ConfigError, RewardConfig, RftConfig
from tau2_exp.reward import score
from tau2_exp.rollout import check_faults
from tau2_exp.rundir import Run
from tau2_exp.stages.fit import fit
from tau2_exp.stages.learner import Learner
from tau2_exp.stages.studio import Studio
from tau2_exp.types import Sampling, Trajectory

SAMPLES = "samples"  # the file of trajectories


async def rft(run: Run) -> None:
    studio, stage = Studio(run), run.config.stage
    assert isinstance(stage, RftConfig)
    learner = Learner(studio)
    samples = await _samples(studio, learner, stage)
    kept = _kept(samples, stage, studio.config.reward)
    fit(learner, [rows_from_trajectory(t, [1.0] * len(t.turns), unparsable=False) for t in kept], stage)
    run.finish(
        {
            "samples": len(samples),
            "kept": len(kept),
            "tasks": len({t.key for t in kept}),
            "steps": learner.step,
            "model": learner.path,
        }
    )


async def _samples(studio: Studio, learner: Learner, stage: RftConfig) -> list[Trajectory]:
    """What the model says as it came from the parent."""
    tasks = studio.tasks(studio.config.domain.train_split)
    sampling = Sampling(stage.temperature, stage.top_p, stage.top_k, studio.config.model.max_new_tokens)
    policy = learner.policy(sampling)
    samples = await studio.collect(SAMPLES, policy, studio.seats(tasks, stage.samples_per_prompt, SAMPLES))
    check_faults(samples, "rft samples")
    return samples


def _kept(samples: Sequence[Trajectory], stage: RftConfig, reward: RewardConfig) -> list[Trajectory]:
    """The filter's choice."""
    groups = {key: list(group) for key, group in groupby(samples, key=lambda t: t.key)}
    kept = select_rft(groups, stage.keep_reward, stage.keep_partial, partial(score, config=reward))
    solved = sum(t.outcome >= stage.keep_reward for t in samples if t.scored)
    if not kept:
        raise ConfigError(_nothing_kept(samples, stage, reward))
    print(f"rft: kept {len(kept)} of {len(samples)} samples ({solved} solved) from {len({t.key for t in kept})} tasks")
    return kept


def _nothing_kept(samples: Sequence[Trajectory], stage: RftConfig, reward: RewardConfig) -> str:
    scores = [score(t, reward) for t in samples if t.scored]
    outcome, partial_score = max(s.outcome for s in scores), max(s.partial for s in scores)
    return (
        f"keep_reward={stage.keep_reward:g} keep_partial={stage.keep_partial:g}: RFT keeps none of {len(samples)} "
        f"samples (best reward {outcome:g}, best partial score {partial_score:.2f}); raise SFT's epochs or RFT's "
        "samples_per_prompt, or lower keep_partial"
    )
