"""The stages and their settings. The first line of each docstring is what `--help` says of the stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from omegaconf import MISSING

from tau2_exp.config.setting import setting

_NAME = "name of the stage; stage=NAME chooses it"
_SAMPLES = "episodes of each task"
_TEMPERATURE = "sampling temperature of the agent"
_TOP_P = "nucleus sampling: the agent samples from the likeliest tokens of this total probability; 1: from all"
_TOP_K = "top-k sampling: the agent samples from this many likeliest tokens; 0: from all"
_BATCH = "conversations of one optimiser step"
_EPOCHS = "passes over the conversations"


class Schedule(str, Enum):
    """How the learning rate goes on after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class StageConfig:
    """A stage."""

    name: str = setting(MISSING, _NAME)


@dataclass
class DemosConfig(StageConfig):
    """The oracle solves the training tasks; SFT learns from these demonstrations."""

    name: str = setting("demos", _NAME)
    samples_per_prompt: int = setting(1, _SAMPLES, at_least=1)


@dataclass
class TrainingConfig(StageConfig):
    """A stage that trains: its optimiser is AdamW."""

    lr: float = setting(1e-5, "learning rate of AdamW, at its peak", above=0)
    schedule: Schedule = setting(
        Schedule.cosine, "how the learning rate changes after the warm-up: constant; linear or cosine, which end at 0"
    )
    warmup: float = setting(0.05, "share of all steps over which the learning rate rises from 0", at_least=0, at_most=1)
    weight_decay: float = setting(0.01, "weight decay of AdamW", at_least=0)
    beta1: float = setting(0.9, "decay of AdamW's mean of the gradients, per step", at_least=0, below=1)
    beta2: float = setting(0.98, "decay of AdamW's mean of the squared gradients, per step", at_least=0, below=1)
    epsilon: float = setting(
        1e-8, "AdamW's epsilon; one above a weight's usual gradient keeps that weight nearly still", above=0
    )
    grad_clip: float = setting(1.0, "gradient norm above which a gradient is scaled down to it", above=0)
    save_every: int = setting(10, "optimiser steps between checkpoints that a killed run resumes from", above=0)
    keep_optimiser: bool = setting(
        False, "whether a finished run's checkpoint keeps the optimiser's state, 4 times its weights"
    )


@dataclass
class SftConfig(TrainingConfig):
    """Supervised fine-tuning: learn to act from demonstrations, or from a file of conversations."""

    name: str = setting("sft", _NAME)
    data: str | None = setting(
        None,
        'JSONL file to learn from: trajectories, or {"prompt": messages}; null: the parent\'s demonstrations',
        path=True,
    )
    epochs: int = setting(2, _EPOCHS, above=0)
    batch_size: int = setting(16, _BATCH, above=0)


@dataclass
class RftConfig(TrainingConfig):
    """Rejection sampling: play the training tasks, learn from the episodes that went well."""

    name: str = setting("rft", _NAME)
    samples_per_prompt: int = setting(4, _SAMPLES, at_least=1)
    temperature: float = setting(0.8, _TEMPERATURE, at_least=0)
    top_p: float = setting(1.0, _TOP_P, above=0, at_most=1)
    top_k: int = setting(0, _TOP_K, at_least=0)
    keep_reward: float = setting(
        1.0, "outcome (0 to 1) from which every episode is kept; 1: only what solved its task", at_least=0, at_most=1
    )
    keep_partial: float = setting(
        0.6,
        "partial score (0 to 1) from which the best episode of a task without a kept one is kept",
        at_least=0,
        at_most=1,
    )
    epochs: int = setting(2, _EPOCHS, above=0)
    batch_size: int = setting(16, _BATCH, above=0)


class PointChoice(str, Enum):
    """How the turns are chosen that an episode is continued from."""

    random = "random"
    entropy = "entropy"


@dataclass
class BranchConfig:
    """Where, and how often, reward=branch plays on from the middle of an episode."""

    points: int = setting(2, "turns that an episode is continued from, at most", above=0)
    width: int = setting(2, "continuations from each of them", above=0)
    choice: PointChoice = setting(
        PointChoice.random,
        "which turns: random (the places of a random episode of the same task) or entropy (the first ones whose first "
        "token has an entropy above threshold)",
    )
    threshold: float = setting(0.5, "entropy: in nats, at the sampling temperature", at_least=0)


@dataclass
class LearningCurveConfig:
    """Evaluations during training, which make a learning curve; they change nothing of what is trained."""

    every: int = setting(0, "training steps between them; there is one before the first step too; 0: none", at_least=0)
    split: str = setting("development", "split that their tasks are of")
    tasks: int = setting(40, "how many of its tasks, evenly spaced; each is played once", above=0)
    temperature: float = setting(0.0, "sampling temperature of the agent; 0: greedy", at_least=0)


@dataclass
class GrpoConfig(TrainingConfig):
    """Reinforcement learning with group-relative advantages (GRPO), on the training tasks."""

    name: str = setting("grpo", _NAME)
    lr: float = setting(1e-6, "learning rate of AdamW, at its peak", above=0)
    schedule: Schedule = setting(
        Schedule.constant, "how the learning rate changes after the warm-up: constant; linear or cosine, which end at 0"
    )
    warmup: float = setting(0.0, "share of all steps over which the learning rate rises from 0", at_least=0, at_most=1)
    weight_decay: float = setting(0.1, "weight decay of AdamW", at_least=0)
    steps: int = setting(200, "training steps; each runs its tasks, then updates the model", above=0)
    prompts_per_step: int | None = setting(16, "tasks of one step; null: sampled_tokens says how large it is", above=0)
    sampled_tokens: int | None = setting(
        None,
        "tokens that the agent samples in one step: as many groups are begun as the mean so far allows, all are "
        "finished, and the next step makes up for what was too much; null: prompts_per_step says how large a step is",
        above=0,
    )
    samples_per_prompt: int = setting(4, "episodes of each task of a step (its group); 2 or more", at_least=0)
    temperature: float = setting(0.7, _TEMPERATURE, at_least=0)
    top_p: float = setting(1.0, _TOP_P, above=0, at_most=1)
    top_k: int = setting(0, _TOP_K, at_least=0)
    updates_per_step: int = setting(1, "optimiser steps on the episodes of one step", above=0)
    clip_low: float = setting(
        0.2, "how far below 1 the probability ratio may go before its gradient is cut", above=0, at_most=1
    )
    clip_high: float = setting(0.28, "how far above 1 the probability ratio may go before its gradient is cut", above=0)
    kl: float = setting(
        0.01, "KL penalty towards the parent's model (low-variance estimator); 0: no reference is kept", at_least=0
    )
    entropy: float = setting(0.001, "entropy bonus of the loss", at_least=0)
    tis_clip: float | None = setting(
        None,
        "upper bound of the truncated importance sampling weights (engine mismatch), which then stand in place of "
        "clip_low and clip_high; null: no correction",
        above=0,
    )
    refill: int = setting(
        2,
        "further draws of tasks in a step, to replace groups without signal; none where tokens are counted",
        at_least=0,
    )
    branch: BranchConfig = setting(BranchConfig, "reward=branch: the continuations of each episode")
    eval: LearningCurveConfig = setting(LearningCurveConfig, "evaluations during training")


@dataclass
class EvalConfig(StageConfig):
    """Evaluate the agent: pass@k and pass^k with intervals, on each split."""

    name: str = setting("eval", _NAME)
    samples_per_prompt: int = setting(4, "sampled episodes of each task", at_least=0)
    temperature: float = setting(0.8, _TEMPERATURE, at_least=0)
    top_p: float = setting(1.0, _TOP_P, above=0, at_most=1)
    top_k: int = setting(0, _TOP_K, at_least=0)
    greedy: bool = setting(True, "whether each task is played once more without sampling (temperature 0)")
    budget_dollars: float | None = setting(
        None,
        "US dollars that the user's and the policy's API may cost together; then the run stops; null: no bound",
        at_least=0,
    )
    budget_tokens: int | None = setting(
        None,
        "tokens that the user's and the policy's API may use together; then the run stops; null: no bound",
        at_least=0,
    )


@dataclass
class CustomConfig(TrainingConfig):
    """A stage of your own; the settings of training are for one that trains."""

    name: str = setting("custom", _NAME)
    function: str = setting(MISSING, "module:name of what does the stage: (context) -> results")
    options: dict[str, Any] = setting(dict, "what function reads: +stage.options.NAME=VALUE")


@dataclass
class PipelineConfig(StageConfig):
    """All stages in a row: demos, SFT, RFT, GRPO, each trained one evaluated."""

    name: str = setting("pipeline", _NAME)
    stages: list[str] = setting(lambda: ["demos", "sft", "rft", "grpo"], "which stages, in this order")
    evaluate: bool = setting(True, "whether each trained stage is evaluated")
    demos: DemosConfig = setting(DemosConfig, "settings of the pipeline's demos")
    sft: SftConfig = setting(SftConfig, "settings of the pipeline's SFT")
    rft: RftConfig = setting(RftConfig, "settings of the pipeline's RFT")
    grpo: GrpoConfig = setting(GrpoConfig, "settings of the pipeline's GRPO")
    eval: EvalConfig = setting(EvalConfig, "settings of the pipeline's evaluations")


STAGES: dict[str, type[StageConfig]] = {
    "demos": DemosConfig,
    "sft": SftConfig,
    "rft": RftConfig,
    "grpo": GrpoConfig,
    "eval": EvalConfig,
    "custom": CustomConfig,
    "pipeline": PipelineConfig,
}
CHAIN = ("demos", "sft", "rft", "grpo")  # the order in which a pipeline's stages depend on one another


def stages_of(stage: StageConfig) -> Iterator[tuple[StageConfig, str]]:
    """A stage with the prefix of its keys; of a pipeline, each stage that it holds."""
    if not isinstance(stage, PipelineConfig):
        yield stage, "stage."
        return
    for name in dict.fromkeys((*stage.stages, "eval")):
        if name in (*CHAIN, "eval"):
            yield getattr(stage, name), f"stage.{name}."
