"""The stages and their settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class Schedule(str, Enum):
    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class StageConfig:
    name: str = MISSING


@dataclass
class DemosConfig(StageConfig):
    name: str = "demos"
    samples_per_prompt: int = 1


@dataclass
class TrainingConfig(StageConfig):
    lr: float = 1e-5
    schedule: Schedule = Schedule.cosine
    warmup: float = 0.05  # of all steps
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8  # Adam's: above a weight's usual gradient, it keeps that weight nearly still
    grad_clip: float = 1.0
    save_every: int = 10  # optimiser steps between checkpoints that a killed run resumes from
    keep_optimiser: bool = False  # leave the optimiser's state in a finished run's checkpoint: 4 times its weights


@dataclass
class SftConfig(TrainingConfig):
    name: str = "sft"
    data: str | None = None  # JSONL of trajectories or {"prompt": messages}; null: the parent's trajectories
    epochs: int = 2
    batch_size: int = 16  # conversations a step


@dataclass
class RftConfig(TrainingConfig):
    name: str = "rft"
    samples_per_prompt: int = 4
    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    keep_reward: float = 1.0  # keep every trajectory with at least this outcome
    keep_partial: float = 0.6  # of a task with none: the best, if its partial score is at least this
    epochs: int = 2
    batch_size: int = 16


@dataclass
class GrpoConfig(TrainingConfig):
    name: str = "grpo"
    lr: float = 1e-6
    schedule: Schedule = Schedule.constant
    warmup: float = 0.0
    weight_decay: float = 0.1
    steps: int = 200
    prompts_per_step: int = 16
    samples_per_prompt: int = 4
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    updates_per_step: int = 1  # optimiser steps on one step's trajectories
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.01  # to the parent's model, low-variance estimator; 0: no reference is kept
    entropy: float = 0.001
    tis_clip: float | None = None  # truncated importance sampling from the stored log-probabilities
    refill: int = 2  # further draws of prompts for groups without signal


@dataclass
class EvalConfig(StageConfig):
    name: str = "eval"
    samples_per_prompt: int = 4
    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    greedy: bool = True  # one more, greedy, sample a task
    budget_dollars: float | None = None  # on all that litellm is asked, user and policy together; then the run stops
    budget_tokens: int | None = None


@dataclass
class PipelineConfig(StageConfig):
    name: str = "pipeline"
    stages: list[str] = field(default_factory=lambda: ["demos", "sft", "rft", "grpo"])
    evaluate: bool = True  # after each trained stage
    demos: DemosConfig = field(default_factory=DemosConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    rft: RftConfig = field(default_factory=RftConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


STAGES: dict[str, type[StageConfig]] = {
    "demos": DemosConfig,
    "sft": SftConfig,
    "rft": RftConfig,
    "grpo": GrpoConfig,
    "eval": EvalConfig,
    "pipeline": PipelineConfig,
}
