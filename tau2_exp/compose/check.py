"""One check across all groups, before anything starts: what cannot work is refused, with the mend."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tau2_exp.compose.errors import suggest
from tau2_exp.config import (
    Config,
    ConfigError,
    CurriculumKind,
    DemosConfig,
    Dtype,
    EngineName,
    EvalConfig,
    GrpoConfig,
    LauncherKind,
    OracleKind,
    PartWeights,
    PipelineConfig,
    PolicyKind,
    Provider,
    RewardConfig,
    RewardKind,
    RftConfig,
    SftConfig,
    SlurmConfig,
    StageConfig,
    UserKind,
)

SPLITS = {
    "telecom": ("train", "test", "base", "small", "full", "development"),
    "airline": ("train", "test", "base"),
    "retail": ("train", "test", "base"),
    "mock": ("base",),
}
CHAIN = ("demos", "sft", "rft", "grpo")

POSITIVE = set(
    "layers width heads kv_heads head_dim ffn vocab_size rope_base context max_new_tokens limit max_steps max_errors "
    "attempts memory threads jobs nodes minutes cpus memory_gb at_once array_limit save_seconds start_seconds "
    "tensor_parallel pipeline_parallel context_parallel expert_parallel server_gpus memory_fraction train_gpus "
    "batch_tokens timeout max_tokens concurrency unparsable_limit lr grad_clip save_every epochs batch_size steps "
    "prompts_per_step updates_per_step clip_low clip_high tis_clip top_p".split()
)
NOT_NEGATIVE = set(
    "alpha action communicate env_assertion db db_progress unparsable_penalty temperature top_k kl entropy refill "
    "weight_decay fault_retries retries samples_per_prompt budget_dollars budget_tokens episodes gpus user_gpus".split()
)
AT_MOST_ONE = set(
    "memory easy_above easy_weight hard_below hard_weight turn_discount warmup beta1 beta2 top_p keep_reward "
    "keep_partial clip_low memory_fraction".split()
)


def check(config: Config) -> None:
    """Raises ConfigError with the first thing that cannot work."""
    for problem in _problems(config):
        raise ConfigError(problem)


def _problems(config: Config) -> Iterator[str]:
    if config.dry_run not in (True, False, "json"):
        yield f"dry_run={config.dry_run}: must be true (a shell script), json (data) or false"
    yield from _ranges(config, "")
    yield from _domain(config)
    yield from _model(config)
    yield from _reward(config)
    yield from _machine(config)
    yield from _speakers(config)
    if isinstance(config.stage, PipelineConfig):
        yield from _pipeline(config, config.stage)
        for name in (*config.stage.stages, "eval"):
            yield from _stage(config, getattr(config.stage, name), f"stage.{name}.")
    else:
        yield from _stage(config, config.stage, "stage.")


def _ranges(section: Any, prefix: str) -> Iterator[str]:
    """Numbers by their name, wherever they stand."""
    for field in dataclasses.fields(section):
        key, value = prefix + field.name, getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from _ranges(value, f"{key}.")
        for name, entry in value.items() if isinstance(value, dict) else ():
            if dataclasses.is_dataclass(entry):
                yield from _ranges(entry, f"{key}.{name}.")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        if field.name in POSITIVE and not value > 0:
            yield f"{key}={value}: must be above 0"
        if (field.name in NOT_NEGATIVE or field.name in AT_MOST_ONE) and not value >= 0:
            yield f"{key}={value}: must be 0 or more"
        if field.name in AT_MOST_ONE and not value <= 1:
            yield f"{key}={value}: must be at most 1"


def _domain(config: Config) -> Iterator[str]:
    domain = config.domain
    if not domain.names:
        yield "domain.names=[]: name at least one domain"
    for name in domain.names:
        if name not in SPLITS:
            yield f"domain.names={name}: no such domain{suggest(name, SPLITS)} (there are {', '.join(SPLITS)})"
    if domain.names == ["mock"] and not isinstance(config.stage, EvalConfig):
        yield f"domain=mock: has no train split and is only evaluated; use stage=eval, not {config.stage.name}"
    if "mock" in domain.names and domain.provider is Provider.inspect:
        yield "domain.provider=inspect: has no tools for mock; use domain.provider=sierra (pip install '.[tau2]')"
    if domain.train_split != "train":
        yield f"domain.train_split={domain.train_split}: training uses the train split only; leave it at train"
    if not domain.eval_splits:
        yield "domain.eval_splits=[]: name at least one split"
    for name in domain.names:
        for split in domain.eval_splits:
            if split not in SPLITS[name]:
                known = ", ".join(SPLITS[name])
                yield f"domain.eval_splits={split}: {name} has no such split{suggest(split, SPLITS[name])} ({known})"
    for key, values in (("names", domain.names), ("eval_splits", domain.eval_splits)):
        if len(set(values)) < len(values):
            yield f"domain.{key}=[{','.join(values)}]: names one twice"


def _model(config: Config) -> Iterator[str]:
    model = config.model
    if model.max_new_tokens >= model.context:
        yield f"model.max_new_tokens={model.max_new_tokens}: must be less than model.context={model.context}"
    if model.heads % model.kv_heads:
        yield f"model.kv_heads={model.kv_heads}: must divide model.heads={model.heads}"
    if model.head_dim % 2:
        yield f"model.head_dim={model.head_dim}: must be even"
    if model.path and re.match(r"[/.~]", model.path) and not (Path(model.path).expanduser() / "config.json").is_file():
        yield f"model.path={model.path}: no model folder there (no config.json); a hub name has the form owner/name"


def _reward(config: Config) -> Iterator[str]:
    reward, curriculum = config.reward, config.curriculum
    if reward.kind is RewardKind.outcome and reward.alpha != 0:
        yield f"reward.alpha={reward.alpha}: reward=outcome has no shaping; use reward=shaped, or alpha 0"
    for key in ("turn_discount", "progress_over_deviation"):
        value = getattr(reward, key)
        if reward.kind is not RewardKind.turn_level and value != getattr(RewardConfig, key):
            yield f"reward.{key}={value}: only reward=turn_level has it, not {reward.kind.value}"
    for key, weights in (("weights", reward.weights), *(_dotted("domain_weights", reward.domain_weights))):
        if not any(dataclasses.astuple(weights)):
            yield f"reward.{key}: every part weighs 0; give one of them a weight"
    if reward.weights != PartWeights() and set(config.domain.names) <= set(reward.domain_weights):
        name = config.domain.names[0]
        yield f"reward.weights: {name} has weights of its own; set reward.domain_weights.{name}.action=… and the like"
    for key in (*reward.domain_weights, *reward.multipliers):
        if key not in SPLITS:
            yield f"reward: {key} is no domain{suggest(key, SPLITS)}"
    for name, value in reward.multipliers.items():
        if not value > 0:
            yield f"reward.multipliers.{name}={value}: must be above 0"
    if curriculum.kind is not CurriculumKind.none and curriculum.hard_below > curriculum.easy_above:
        yield f"curriculum.hard_below={curriculum.hard_below}: must be at most easy_above={curriculum.easy_above}"


def _dotted(prefix: str, items: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{prefix}.{key}", value) for key, value in items.items()]


def _machine(config: Config) -> Iterator[str]:
    hardware = config.hardware
    if not re.fullmatch(r"cpu|cuda(:\d+)?", hardware.device):
        yield f"hardware.device={hardware.device}: must be cpu, cuda or cuda:N"
    if hardware.device == "cpu" and hardware.dtype is Dtype.bfloat16:
        yield "hardware.dtype=bfloat16: slower and coarser than float32 on a CPU; use float32, or hardware=gpu_1"
    if hardware.launcher is LauncherKind.slurm:
        yield from _slurm(hardware.slurm)
    if config.engine.name is EngineName.torch:
        yield from _torch(config)


def _slurm(slurm: SlurmConfig) -> Iterator[str]:
    if slurm.minutes * 60 <= slurm.save_seconds + 60:
        yield (
            f"hardware.slurm.minutes={slurm.minutes}: with save_seconds={slurm.save_seconds}, which SLURM may round up "
            "by a minute, a job is told to save as it begins; raise minutes"
        )
    for key, texts in (("setup", slurm.setup), ("srun", slurm.srun), ("options", slurm.options.values())):
        if any(re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=[^$\s]", text, re.IGNORECASE) for text in texts):
            yield f"hardware.slurm.{key}: holds a key; export it where run.py is called, SLURM hands it to the jobs"


def _torch(config: Config) -> Iterator[str]:
    hardware, model = config.hardware, config.model
    for name, value in (("gpus", hardware.gpus), ("nodes", hardware.nodes)):
        if value > 1:
            yield f"hardware.{name}={value}: engine=torch computes on one device; use engine=slime, or hardware=gpu_1"
    if model.experts:
        yield f"model.experts={model.experts}: engine=torch has no mixtures of experts; use engine=slime"
    if config.user.serve:
        yield f"user.serve={config.user.serve}: needs GPUs of its own; use engine=slime, or give user.api_base=URL"


def _slime(config: Config, stage: StageConfig, prefix: str) -> Iterator[str]:
    from tau2_exp.engines.slime.plan.check import problems

    yield from problems(config, stage, prefix)


def _speakers(config: Config) -> Iterator[str]:
    user, policy = config.user, config.policy
    if user.kind is UserKind.litellm and not user.model:
        yield "user.model=null: user=litellm needs the name of a model; user.model=NAME"
    for group, base in (
        ("user.api_base", user.api_base),
        ("policy.api_base", policy.api_base),
        ("policy.url", policy.url),
    ):
        if base and _holds_secret(base):
            name = f"{group.partition('.')[0]}.api_key_env=…"
            yield f"{group}: holds a password or a key; put it into a variable and name that: {name}"
    if policy.kind is PolicyKind.litellm and not policy.model:
        yield "policy.model=null: policy=litellm needs the name of a model; policy.model=NAME"
    if policy.kind is PolicyKind.sglang and not policy.url and not config.serves_policy:
        yield "policy.url=null: policy=sglang needs a server's address; policy.url=http://HOST:PORT"
    if policy.kind is PolicyKind.sglang and not (config.model.path or config.parent):
        yield "model.path=null: policy=sglang needs the served model's tokenizer; model.path=FOLDER, or parent=RUN"
    if policy.kind is not PolicyKind.model and not isinstance(config.stage, EvalConfig):
        yield f"policy={policy.kind.value}: only stage=eval can use a policy other than the model; remove it"


def _holds_secret(url: str) -> bool:
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(re.search(r"(?i)(key|token|secret|password|sig)=", parts.query))


def _stage(config: Config, stage: StageConfig, prefix: str) -> Iterator[str]:
    yield from _of_stage(config, stage, prefix)
    if config.engine.name is EngineName.slime:
        yield from _slime(config, stage, prefix)


def _of_stage(config: Config, stage: StageConfig, prefix: str) -> Iterator[str]:
    name = prefix + "samples_per_prompt"
    if isinstance(stage, DemosConfig):
        yield from _oracle(config)
        if stage.samples_per_prompt < 1:
            yield f"{name}={stage.samples_per_prompt}: must be 1 or more"
    elif isinstance(stage, SftConfig):
        if stage.data and not Path(stage.data).is_file():
            yield f"{prefix}data={stage.data}: no such file"
    elif isinstance(stage, RftConfig):
        if stage.samples_per_prompt < 1:
            yield f"{name}={stage.samples_per_prompt}: must be 1 or more"
        if stage.temperature == 0 and stage.samples_per_prompt > 1:
            yield f"{prefix}temperature=0: makes {stage.samples_per_prompt} equal samples; use 0.8, or one sample"
    elif isinstance(stage, GrpoConfig):
        if stage.samples_per_prompt < 2:
            yield f"{name}={stage.samples_per_prompt}: a group of one has no advantage; it must be 2 or more"
        if stage.temperature == 0:
            yield f"{prefix}temperature=0: explores nothing; use 0.7 to 1.0"
    elif isinstance(stage, EvalConfig):
        if config.policy.kind is PolicyKind.oracle:
            yield from _oracle(config)
        bounded = stage.budget_dollars is not None or stage.budget_tokens is not None
        if bounded and config.user.kind is not UserKind.litellm and config.policy.kind is not PolicyKind.litellm:
            yield f"{prefix}budget_…: only what litellm is asked is counted; use user=litellm or policy=litellm"
        if stage.samples_per_prompt == 0 and not stage.greedy:
            yield f"{name}=0: nothing to evaluate; use 4, or {prefix}greedy=true"
        if stage.temperature == 0 and stage.samples_per_prompt > 1 and config.policy.kind is PolicyKind.model:
            yield f"{prefix}temperature=0: makes equal samples; use {name}=0 {prefix}greedy=true"


def _oracle(config: Config) -> Iterator[str]:
    if config.policy.oracle is OracleKind.workflow and config.domain.names != ["telecom"]:
        names = ",".join(config.domain.names)
        yield f"policy.oracle=workflow: knows only telecom, not domain.names=[{names}]; use policy.oracle=gold"


def _pipeline(config: Config, stage: PipelineConfig) -> Iterator[str]:
    given = f"stage.stages=[{','.join(stage.stages)}]"
    for name in stage.stages:
        if name not in CHAIN:
            yield f"{given}: {name} is no stage of a pipeline{suggest(name, CHAIN)} (there are {', '.join(CHAIN)})"
    if not stage.stages or sorted(stage.stages, key=CHAIN.index) != stage.stages:
        yield f"{given}: must be some of {', '.join(CHAIN)}, in this order"
    if len(set(stage.stages)) < len(stage.stages):
        yield f"{given}: names one twice"
    if config.parent or stage.stages == ["demos"]:
        return
    if "sft" not in stage.stages:
        yield f"{given}: has no sft to begin with; add it, or give parent=RUN"
    if "demos" not in stage.stages and not stage.sft.data:
        yield f"{given}: sft has no training data; add demos, or give stage.sft.data=FILE"
