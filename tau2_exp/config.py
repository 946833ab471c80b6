"""The schema: every setting, its type and its one default. YAML under conf/ only chooses among them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from tau2_exp.codec import decode


class ProtocolName(str, Enum):
    single_action = "single_action"
    native = "native"


class Document(str, Enum):
    full = "full"
    compressed = "compressed"
    none = "none"


class Provider(str, Enum):
    auto = "auto"
    sierra = "sierra"
    inspect = "inspect"


class RewardKind(str, Enum):
    outcome = "outcome"
    shaped = "shaped"
    turn_level = "turn_level"


class CurriculumKind(str, Enum):
    none = "none"
    reference = "reference"
    adaptive = "adaptive"


class EngineName(str, Enum):
    torch = "torch"
    slime = "slime"


class UserKind(str, Enum):
    scripted = "scripted"
    litellm = "litellm"


class PolicyKind(str, Enum):
    model = "model"
    sglang = "sglang"
    litellm = "litellm"
    oracle = "oracle"


class OracleKind(str, Enum):
    workflow = "workflow"  # telecom: reads only the conversation
    gold = "gold"  # any domain: follows the reference actions


class LoggerKind(str, Enum):
    none = "none"
    wandb = "wandb"


class ArtifactKind(str, Enum):
    none = "none"
    reference = "reference"  # to where the checkpoint lies; nothing is copied
    upload = "upload"


class LauncherKind(str, Enum):
    local = "local"
    slurm = "slurm"


class Schedule(str, Enum):
    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class Dtype(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class ModelConfig:
    name: str = MISSING
    path: str | None = None  # a local folder or a hub name; null: from scratch with the sizes below
    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 384
    vocab_size: int = 1900  # an upper bound where the tokenizer is trained from scratch
    rope_base: float = 10000.0
    tied: bool = True
    experts: int = 0  # of each layer; 0: dense
    experts_per_token: int = 0
    expert_ffn: int = 0
    context: int = 32768  # tokens an episode may hold
    max_new_tokens: int = 1024  # tokens a turn may have
    protocol: ProtocolName = ProtocolName.single_action
    schemas: bool = True  # list the tools' schemas in the system prompt


@dataclass
class DomainConfig:
    names: list[str] = MISSING  # telecom, airline, retail, mock
    train_split: str = "train"
    eval_splits: list[str] = field(default_factory=lambda: ["train", "test"])  # also: development (telecom)
    limit: int | None = None  # tasks of each split and domain, evenly spaced
    max_steps: int = 100  # as τ²-bench counts them
    max_errors: int = 10
    document: Document = Document.full
    provider: Provider = Provider.auto


@dataclass
class PartWeights:
    action: float = 0.5
    communicate: float = 0.15
    env_assertion: float = 0.35
    db: float = 0.0
    db_progress: float = 0.0


@dataclass
class RewardConfig:
    kind: RewardKind = RewardKind.shaped
    alpha: float = 0.25
    weights: PartWeights = field(default_factory=PartWeights)
    domain_weights: dict[str, PartWeights] = field(
        default_factory=lambda: {"telecom": PartWeights(action=0.35, communicate=0.35, env_assertion=0.30)}
    )
    # of alpha, in that domain
    multipliers: dict[str, float] = field(default_factory=lambda: {"retail": 0.8, "airline": 1.0, "telecom": 1.6})
    unparsable_penalty: float = 0.0  # off the shaped reward, each unparsable turn
    turn_discount: float = 0.9  # γ, on the progress still to go (turn_level); at 1 all turns before progress tie
    outcome_over_deviation: bool = True  # divide the outcome's advantage by its group's deviation
    progress_over_deviation: bool = False  # the same for the turn's return (turn_level)


@dataclass
class CurriculumConfig:
    kind: CurriculumKind = CurriculumKind.none
    attempts: int = 5  # before a task's solved fraction counts
    easy_above: float = 0.75
    easy_weight: float = 0.1
    hard_below: float = 0.25
    hard_weight: float = 0.5
    memory: float = 0.5  # adaptive: the share of a task's solved fraction that an attempt replaces


@dataclass
class SlurmConfig:
    """What is asked of SLURM for one job (one stage of one run)."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = 240  # the time limit; a job that reaches it saves, and is queued again
    cpus: int = 1  # cores of each node
    memory_gb: int | None = None  # of each node; null: the partition's default
    at_once: int | None = None  # jobs of a sweep that run at once; null: as many as SLURM lets
    array_limit: int = 1000  # jobs of one array; a longer sweep is split (SLURM's MaxArraySize)
    save_seconds: int = 120  # before its end, a job is told to save
    setup: list[str] = field(default_factory=list)  # shell lines before the worker: module load …
    options: dict[str, str] = field(default_factory=dict)  # further sbatch options, by their long names
    srun: list[str] = field(default_factory=list)  # further arguments of srun: --container-image=…
    python: str | None = None  # the command that is Python on the nodes: apptainer exec …; null: this Python


@dataclass
class HardwareConfig:
    name: str = MISSING
    device: str = "cpu"
    dtype: Dtype = Dtype.float32
    threads: int = 1  # torch threads a process
    jobs: int | None = None  # runs of a sweep side by side; null: one for each core or device
    launcher: LauncherKind = LauncherKind.local
    nodes: int = 1
    gpus: int = 0  # of each node; more than one wants engine=slime
    colocate: bool = True  # slime: training and rollouts take turns on the same GPUs
    train_gpus: int | None = None  # slime, not colocated: of each node's, for training; null: half of them
    user_gpus: int | None = None  # slime: the first node's last GPUs, for the user that user.serve names; null: half
    slurm: SlurmConfig = field(default_factory=SlurmConfig)


@dataclass
class SlimeConfig:
    """Where slime lies in its container, and how it divides a model and the GPUs."""

    root: str = "/root/slime"
    megatron: str = "/root/Megatron-LM"
    tensor_parallel: int = 2
    pipeline_parallel: int = 1
    context_parallel: int = 1
    expert_parallel: int = 1
    server_gpus: int = 2  # of one SGLang server
    memory_fraction: float = 0.70  # of a GPU, for SGLang's weights and cache
    asynchronous: bool = False  # rollouts go on while the model is trained (train_async.py); wants colocate=false
    start_seconds: int = 1800  # until a server answers, or all of Ray's nodes are there
    flags: dict[str, Any] = field(default_factory=dict)  # further flags of slime, without the dashes; checked


@dataclass
class EngineConfig:
    name: EngineName = EngineName.torch
    lockstep: bool = True  # decode only when every open episode waits: one seed, one result
    batch_tokens: int = 16384  # tokens of one forward and backward pass
    recompute: bool = False  # recompute activations in the backward pass: less memory, more time
    slime: SlimeConfig = field(default_factory=SlimeConfig)


@dataclass
class UserConfig:
    kind: UserKind = UserKind.scripted
    model: str | None = None  # litellm's name of the model
    api_base: str | None = None
    api_key_env: str | None = None  # the environment variable's name, never the key
    serve: str | None = None  # slime: a model folder or hub name, served on hardware.user_gpus for this run
    temperature: float = 0.0
    max_tokens: int = 1024
    timeout: float = 120.0  # seconds a request
    retries: int = 4
    cache: bool | None = None  # stage=eval: keep replies by what was asked; null: a hosted model's, not a server's


@dataclass
class PolicyConfig:
    kind: PolicyKind = PolicyKind.model
    oracle: OracleKind = OracleKind.workflow
    url: str | None = None  # SGLang's address; null with engine=slime: a server is started for the run
    model: str | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    timeout: float = 300.0
    retries: int = 4
    cache: bool | None = None  # as user.cache


@dataclass
class LoggerConfig:
    kind: LoggerKind = LoggerKind.none
    project: str = "tau2_exp"
    entity: str | None = None
    group: str | None = None
    api_key_env: str = "WANDB_API_KEY"
    episodes: int = 32  # of each trajectories file, in a table
    artifacts: ArtifactKind = ArtifactKind.reference


@dataclass
class RolloutConfig:
    concurrency: int = 96  # episodes at once
    fault_retries: int = 2  # fresh starts of an episode that a fault ended
    unparsable_limit: int = 3  # unparsable turns that end an episode


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


@dataclass
class Config:
    model: ModelConfig = MISSING
    domain: DomainConfig = MISSING
    stage: StageConfig = MISSING
    reward: RewardConfig = MISSING
    curriculum: CurriculumConfig = MISSING
    hardware: HardwareConfig = MISSING
    engine: EngineConfig = MISSING
    user: UserConfig = MISSING
    policy: PolicyConfig = MISSING
    logger: LoggerConfig = MISSING
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    seed: int = 0
    parent: str | None = None  # the run folder this stage stands on; null: found by content, or made
    resume: str | None = None  # continue this run or sweep
    dry_run: Any = False  # print what would run: true (a shell script that one could paste) or json
    wait: bool = False  # slurm: stay until all is done, with a live table
    outputs: str = "outputs"  # where run folders go
    name: str | None = None  # of the run's folder; null: made from time and stage

    @property
    def serves_policy(self) -> bool:
        """Whether the model that speaks is served by SGLang for the run, rather than computed in its process."""
        kind = self.policy.kind
        served = kind is PolicyKind.model or (kind is PolicyKind.sglang and self.policy.url is None)
        return self.engine.name is EngineName.slime and served


STAGES: dict[str, type[StageConfig]] = {
    "demos": DemosConfig,
    "sft": SftConfig,
    "rft": RftConfig,
    "grpo": GrpoConfig,
    "eval": EvalConfig,
    "pipeline": PipelineConfig,
}

TASK_REVISION = "tau2-bench@337326e"  # of every task, whichever provider brings it


class ConfigError(Exception):
    """One line for a person: the key, what was given, and what would do."""


def to_data(config: Config) -> dict[str, Any]:
    """The whole configuration as JSON data, defaults included."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_data(data: dict[str, Any]) -> Config:
    """The configuration that `to_data` wrote. Raises ValueError naming a key that is unknown or of a wrong type."""
    stage = data["stage"]
    if stage["name"] not in STAGES:
        raise ValueError(f"Config.stage.name: {stage['name']!r} is not one of {', '.join(STAGES)}")
    config = decode(Config, {**data, "stage": {"name": stage["name"]}})
    return dataclasses.replace(config, stage=decode(STAGES[stage["name"]], stage))
