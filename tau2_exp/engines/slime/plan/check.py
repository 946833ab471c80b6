"""What slime, Megatron or SGLang would refuse after minutes, refused before anything starts, with the mend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from typing import Any

from tau2_exp.config import (
    Backbone,
    Config,
    ConfigError,
    Dtype,
    EvalConfig,
    GrpoConfig,
    ModelConfig,
    RewardConfig,
    RewardKind,
    RftConfig,
    Sampler,
    SftConfig,
    StageConfig,
    TrainingConfig,
    UserKind,
    stages_of,
)
from tau2_exp.config.paths import is_hub_name
from tau2_exp.engines.slime.plan.arguments import train_flags
from tau2_exp.engines.slime.plan.layout import Layout, data_parallel, make_layout, train_gpus, user_gpus
from tau2_exp.engines.slime.plan.memory import kept_gb
from tau2_exp.engines.slime.plan.rules import refused

# Of a checkpoint's config.json, what has to be the model's sizes.
SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "ffn",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_base",
    "tie_word_embeddings": "tied",
    "num_experts": "experts",
    "num_experts_per_tok": "experts_per_token",
    "moe_intermediate_size": "expert_ffn",
}
FAMILIES = ("qwen3", "qwen3_moe")  # whose sizes `model.py` knows as flags
LENGTH = 4096  # Megatron's sequence length where none is given; it wants 2 × context parallel to divide it


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that engine=slime cannot do."""
    if config.engine.backbone is not Backbone.auto:
        yield f"engine.backbone={config.engine.backbone.value}: is for engine=torch; remove it"
    if config.engine.sampler is not Sampler.torch:
        yield f"engine.sampler={config.engine.sampler.value}: is for engine=torch; slime has SGLang anyway; remove it"
    for stage, prefix in stages_of(config.stage):
        yield from _of_stage(config, stage, prefix)


def _of_stage(config: Config, stage: StageConfig, prefix: str) -> Iterator[str]:
    """The rules of one stage; `prefix` begins the keys of its settings."""
    if not _uses_gpus(config, stage):
        return
    machine = list(_machine(config))
    yield from machine
    if machine:
        return
    yield from _user(config)
    layout = make_layout(config, stage)
    if not layout.policy:
        yield f"hardware.user_gpus={user_gpus(config)}: leaves none of {_count(config.hardware.gpus)} to the policy"
        return
    if isinstance(stage, GrpoConfig):
        yield from _not_here(config.reward, stage, prefix)
    if isinstance(stage, TrainingConfig):
        if config.model.lora:
            yield f"model.lora={config.model.lora}: engine=slime trains all weights; use engine=torch, or remove it"
        yield from _model(config.model)
        yield from _parallel(config, layout)
        yield from _memory(config)
        yield from _training(config, stage, prefix, layout)
    if isinstance(stage, GrpoConfig):
        yield from _grpo(config, stage, prefix, layout)
    elif isinstance(stage, RftConfig) or (isinstance(stage, EvalConfig) and config.serves_policy):
        yield from _serving(config, layout)
    if isinstance(stage, TrainingConfig):
        yield from _flags(config, stage)


def _uses_gpus(config: Config, stage: StageConfig) -> bool:
    served = isinstance(stage, EvalConfig) and config.serves_policy
    return served or isinstance(stage, TrainingConfig) or bool(config.user.serve)


def _machine(config: Config) -> Iterator[str]:
    hardware = config.hardware
    if not hardware.device.startswith("cuda") or hardware.gpus < 1:
        name = hardware.name
        yield f"engine.name=slime: needs GPUs, and hardware={name} has none; use hardware=gpu_8, or engine=torch"
    elif hardware.dtype is not Dtype.bfloat16:
        yield f"hardware.dtype={hardware.dtype.value}: slime trains in bfloat16; use that"


def _user(config: Config) -> Iterator[str]:
    user, given = config.user, config.hardware.user_gpus
    if user.serve is None:
        if given:
            yield f"hardware.user_gpus={given}: no user is served on them; use user=local, or hardware.user_gpus=null"
        return
    if user.kind is not UserKind.litellm:
        yield f"user.serve={user.serve}: a {user.kind.value} user needs no model; use user=local"
    if user.api_base:
        yield f"user.api_base={user.api_base}: user.serve starts a server of its own; remove one of the two"
    if not user_gpus(config):
        of = config.hardware.gpus
        yield f"user.serve={user.serve}: has no GPU of the node's {of}; give hardware.user_gpus=N, or user=litellm"


def _model(model: ModelConfig) -> Iterator[str]:
    if model.path is None:
        yield "model.path=null: engine=slime begins with a pretrained model; give model.path=FOLDER or a hub name"
    elif not is_hub_name(model.path):
        try:
            said = json.loads((Path(model.path) / "config.json").read_text())
        except (ValueError, OSError) as error:
            yield f"model.path={model.path}: {error}"
            return
        if (family := said.get("model_type", FAMILIES[0])) not in FAMILIES:
            yield f"model.path={model.path}: model_type is {family!r}; engine=slime trains {' and '.join(FAMILIES)}"
            return
        yield from _sizes(model, said)


def _sizes(model: ModelConfig, said: dict[str, Any]) -> Iterator[str]:
    said = said | (said.get("rope_parameters") or {})
    dense = not said.get("num_experts")
    for name, setting in SIZES.items():
        value, ours = said.get(name), getattr(model, setting)
        if value is not None and value != ours and (dense or setting != "ffn"):
            value = str(value).lower() if isinstance(value, bool) else value
            yield f"model.{setting}={ours}: the checkpoint in model.path has {value}; use model.{setting}={value}"


def _parallel(config: Config, layout: Layout) -> Iterator[str]:
    slime, model = config.engine.slime, config.model
    tensor, pipeline, context = slime.tensor_parallel, slime.pipeline_parallel, slime.context_parallel
    given = f"engine.slime.tensor_parallel={tensor}"
    for name in ("heads", "kv_heads"):
        if getattr(model, name) % tensor:
            yield f"{given}: must divide model.{name}={getattr(model, name)}"
    if model.layers % pipeline:
        yield f"engine.slime.pipeline_parallel={pipeline}: must divide model.layers={model.layers}"
    if LENGTH % (2 * context):
        yield f"engine.slime.context_parallel={context}: must be a power of 2"
    left, rest = divmod(layout.train, pipeline * context)
    if rest or left % tensor:
        mend = "use fewer" if rest else f"use engine.slime.tensor_parallel={gcd(tensor, left)}"
        yield (
            f"{given} × pipeline_parallel={pipeline} × context_parallel={context}: must divide the "
            f"{_count(layout.train)} that train{_apart(config)}; {mend}, or more GPUs"
        )
    yield from _experts(config, layout)


def _experts(config: Config, layout: Layout) -> Iterator[str]:
    slime, model = config.engine.slime, config.model
    experts, pipeline = slime.expert_parallel, slime.pipeline_parallel
    given = f"engine.slime.expert_parallel={experts}"
    if experts > 1 and not model.experts:
        yield f"{given}: model={model.name} is dense; use 1"
    elif model.experts and model.experts % experts:
        yield f"{given}: must divide model.experts={model.experts}"
    elif layout.train % (experts * pipeline):
        gpus = f"{_count(layout.train)} that train{_apart(config)}"
        yield f"{given} × pipeline_parallel={pipeline}: must divide the {gpus}; use more GPUs"


def _memory(config: Config) -> Iterator[str]:
    kept, gpu = kept_gb(config), config.hardware.gpu_memory_gb
    if kept > gpu:
        yield (
            f"hardware.gpu_memory_gb={gpu}: weights and gradients of model={config.model.name} take {kept:.0f} GB of "
            f"each GPU that trains, the optimizer not counted{_apart(config)}; use more GPUs, or a smaller model"
        )


def _count(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"


def _apart(config: Config) -> str:
    """What the other GPUs do, and how to have them."""
    user = user_gpus(config)
    return f" ({_count(user)} for the user: hardware.user_gpus, or user=litellm)" if user else ""


def _training(config: Config, stage: TrainingConfig, prefix: str, layout: Layout) -> Iterator[str]:
    if stage.warmup >= 1:
        yield f"{prefix}warmup={stage.warmup}: leaves nothing to train after it; it must be less than 1"
    copies = data_parallel(config, layout)
    if isinstance(stage, GrpoConfig):
        episodes, updates = (stage.prompts_per_step or 0) * stage.samples_per_prompt, stage.updates_per_step
        given = f"{prefix}prompts_per_step={stage.prompts_per_step} × samples_per_prompt={stage.samples_per_prompt}"
        if episodes % updates:
            yield f"{prefix}updates_per_step={updates}: must divide {given[len(prefix) :]} = {episodes}"
            return
        batch, given = episodes // updates, f"{given} / updates_per_step={updates}"
    else:
        assert isinstance(stage, (SftConfig, RftConfig))
        batch = stage.batch_size
        given = f"{prefix}batch_size={batch}"
    if copies and batch % copies:
        yield f"{given}: must be a multiple of {copies}, the model's copies on {_count(layout.train)}{_apart(config)}"


def _not_here(reward: RewardConfig, stage: GrpoConfig, prefix: str) -> Iterator[str]:
    if reward.kind is RewardKind.branch:
        yield (
            "reward=branch: engine=slime would need a rollout function that plays on from the middle of an episode, "
            "and groups of several sizes in one batch; use engine=torch, or reward=turn_level"
        )
    if stage.sampled_tokens is not None:
        mend = f"use {prefix}prompts_per_step=N {prefix}sampled_tokens=null, or engine=torch"
        yield f"{prefix}sampled_tokens={stage.sampled_tokens}: a step of slime's is a number of episodes; {mend}"
    if stage.eval.every:
        mend = f"use {prefix}eval.every=0 and stage=eval afterwards, or engine=torch"
        yield f"{prefix}eval.every={stage.eval.every}: engine=slime does not evaluate during training; {mend}"


def _grpo(config: Config, stage: GrpoConfig, prefix: str, layout: Layout) -> Iterator[str]:
    hardware, slime = config.hardware, config.engine.slime
    if slime.asynchronous and hardware.colocate:
        yield "engine.slime.asynchronous=true: rollouts need GPUs of their own; use hardware.colocate=false"
    if slime.asynchronous and stage.refill:
        yield f"{prefix}refill={stage.refill}: the asynchronous rollout of slime has no filter; use {prefix}refill=0"
    if stage.top_p != 1.0:
        yield f"{prefix}top_p={stage.top_p}: slime's trainer does not support top_p below 1; use 1.0"
    if hardware.colocate and hardware.train_gpus is not None:
        yield f"hardware.train_gpus={hardware.train_gpus}: on shared GPUs it has all; use hardware.colocate=false"
    if not hardware.colocate and layout.per_node < 2:
        yield f"hardware.colocate=false: one GPU cannot be shared out{_apart(config)}; use hardware.colocate=true"
        return
    if not hardware.colocate and not 0 < train_gpus(config) < layout.per_node:
        yield (
            f"hardware.train_gpus={train_gpus(config)}: must be 1 to {layout.per_node - 1} "
            f"of the {layout.per_node} GPUs of a node, and leaves the others to the rollouts"
        )
        return
    yield from _engines(config, layout)


def _engines(config: Config, layout: Layout) -> Iterator[str]:
    """A server's GPUs lie on one node, or are whole nodes."""
    server, node = layout.server, layout.per_node
    first = 0 if layout.colocate else layout.train
    whole = min(server, node)
    if layout.rollout % server or first % whole or max(server, node) % whole:
        yield (
            f"engine.slime.server_gpus={server}: must divide the rollouts' GPUs "
            f"({layout.rollout}, on nodes of {node}){_apart(config)}"
        )
    yield from _heads(config, server)


def _serving(config: Config, layout: Layout) -> Iterator[str]:
    server, gpus = layout.server, len(layout.policy)
    if gpus % server:
        yield f"engine.slime.server_gpus={server}: must divide the policy's {_count(gpus)}{_apart(config)}"
    yield from _heads(config, server)


def _heads(config: Config, server: int) -> Iterator[str]:
    model = config.model
    if model.heads % server or (model.kv_heads % server and server % model.kv_heads):
        yield (
            f"engine.slime.server_gpus={server}: must divide model.heads={model.heads} "
            f"that goes with model.kv_heads={model.kv_heads}"
        )


def _flags(config: Config, stage: TrainingConfig) -> Iterator[str]:
    try:
        flags = train_flags(config, stage, Path("/"), "MODEL")
    except ConfigError as error:
        yield str(error)
        return
    for line in refused(flags):
        yield f"engine.slime.flags.{line}"
