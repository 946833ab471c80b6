"""A stage's settings as the command line of slime's trainer: train.py, or train_async.py.

Each flag carries the setting that decides it. engine.slime.flags adds to them, and decides where no setting does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tau2_exp.config import Config, ConfigError, GrpoConfig, RftConfig, SftConfig, TrainingConfig
from tau2_exp.engines.slime.plan.flags import find_flag, write_flag, write_flags
from tau2_exp.engines.slime.plan.layout import Layout, make_layout
from tau2_exp.engines.slime.plan.memory import offload_flags
from tau2_exp.engines.slime.plan.model import Given, model_flags
from tau2_exp.engines.slime.plan.places import BASE, CHECKPOINTS, ROWS, SETTINGS, TASKS

HOOKS = "tau2_exp.engines.slime.hooks.entry"
FULLY_ASYNCHRONOUS = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"
NEWEST_ONLY = 1_000_000  # intervals: of the checkpoints between, Megatron keeps the newest alone
HEALTH_SECONDS = 120.0  # a server has to answer while it generates for many; slime's own 30 are few for that
# Flags that a setting decides by their being there or not, whichever stage it is.
DECIDED_BY = {
    "colocate": "hardware.colocate",
    "debug-rollout-only": "stage",
    "debug-train-only": "stage",
    "loss-type": "stage",
    "num-epoch": "stage",
    "num-rollout": "stage",
    "custom-rm-path": "reward",
    "rm-type": "reward",
    "group-rm": "reward",
    "custom-advantage-function-path": "reward",
    "kl-coef": "stage.kl",
    "use-kl-loss": "stage.kl",
    "kl-loss-coef": "stage.kl",
    "use-tis": "stage.tis_clip",
    "tis-clip": "stage.tis_clip",
    "num-steps-per-rollout": "stage.updates_per_step",
    "sequence-parallel": "engine.slime.tensor_parallel",
    "recompute-granularity": "engine.recompute",
    "recompute-activations": "engine.recompute",
    "lr-warmup-fraction": "stage.warmup",
    "lr-warmup-iters": "stage.warmup",
    "lr-warmup-samples": "stage.warmup",
    "fp16": "hardware.dtype",
    "use-wandb": "logger",
    "eval-interval": "stage=eval",
    "eval-prompt-data": "stage=eval",
    "eval-config": "stage=eval",
    "rollout-function-path": "engine.slime.asynchronous",
}


def trainer(config: Config) -> str:
    """The name of the trainer's script in slime's folder."""
    return "train_async.py" if _asynchronous(config, config.stage) else "train.py"


def train_arguments(config: Config, folder: Path, model: str) -> list[str]:
    """argv after the script. `model` is the Hugging Face folder that training begins with, `folder` the run's.

    Raises ConfigError where engine.slime.flags holds what slime would drop, refuse, or what a setting decides.
    """
    return write_flags(train_flags(config, config.stage, folder, model))


def train_flags(config: Config, stage: Any, folder: Path, model: str) -> dict[str, Any]:
    """Flags and values of a stage's training (sft, rft or grpo): ours, then those of engine.slime.flags."""
    ours = {given.flag: given for given in _given(config, stage, folder, model)}
    flags = {name: given.value for name, given in ours.items()}
    for name, value in config.engine.slime.flags.items():
        key = f"engine.slime.flags.{name}={value}"
        write_flag(name, value, key)
        flag = find_flag(name, key)
        setting = ours[name].setting if name in ours else DECIDED_BY.get(name)
        if setting and flags.get(name) != value and not (name not in ours and value in (None, False)):
            raise ConfigError(f"{key}: {setting} decides --{name}; set that instead")
        if flag.parser != "sglang" or isinstance(stage, GrpoConfig):
            flags[name] = value
    return {name: value for name, value in flags.items() if value is not None}


def _given(config: Config, stage: TrainingConfig, folder: Path, model: str) -> Iterator[Given]:
    layout = make_layout(config, stage)
    yield from _cluster(layout)
    yield from model_flags(config.model)
    yield from _checkpoints(folder, model, stage)
    yield from _parallel(config)
    yield from _optimiser(stage)
    yield from offload_flags(config, layout)
    yield from _precision()
    yield from _run(config, folder, stage)
    if isinstance(stage, GrpoConfig):
        yield from _grpo(config, stage, layout)
    else:
        assert isinstance(stage, (SftConfig, RftConfig))
        yield from _supervised(stage)


def _cluster(layout: Layout) -> Iterator[Given]:
    yield Given("actor-num-nodes", layout.nodes, "hardware.nodes")
    yield Given("actor-num-gpus-per-node", layout.train // layout.nodes, "hardware.gpus")
    yield Given("num-gpus-per-node", layout.per_node, "hardware.gpus")
    if layout.rollout:
        yield Given("rollout-num-gpus", layout.rollout, "hardware.train_gpus")
        yield Given("rollout-num-gpus-per-engine", layout.server, "engine.slime.server_gpus")
    if layout.colocate:
        yield Given("colocate", True, "hardware.colocate")


def _checkpoints(folder: Path, model: str, stage: TrainingConfig) -> Iterator[Given]:
    """--load is where the run itself saves: empty at first, and then slime begins with --ref-load."""
    yield Given("hf-checkpoint", model, "parent or model.path")
    yield Given("ref-load", str(folder / BASE), "parent or model.path")
    yield Given("load", str(folder / CHECKPOINTS), "parent or model.path")
    yield Given("save", str(folder / CHECKPOINTS), "outputs")
    yield Given("save-interval", stage.save_every, "stage.save_every")
    yield Given("save-retain-interval", stage.save_every * NEWEST_ONLY)


def _parallel(config: Config) -> Iterator[Given]:
    slime = config.engine.slime
    yield Given("tensor-model-parallel-size", slime.tensor_parallel, "engine.slime.tensor_parallel")
    if slime.tensor_parallel > 1:
        yield Given("sequence-parallel", True, "engine.slime.tensor_parallel")
    yield Given("pipeline-model-parallel-size", slime.pipeline_parallel, "engine.slime.pipeline_parallel")
    yield Given("context-parallel-size", slime.context_parallel, "engine.slime.context_parallel")
    yield Given("expert-model-parallel-size", slime.expert_parallel, "engine.slime.expert_parallel")
    yield Given("expert-tensor-parallel-size", 1, "engine.slime.expert_parallel")
    yield Given("use-dynamic-batch-size", True, "engine.batch_tokens")
    yield Given("max-tokens-per-gpu", config.engine.batch_tokens, "engine.batch_tokens")
    if config.engine.recompute:
        yield Given("recompute-granularity", "full", "engine.recompute")
        yield Given("recompute-method", "uniform", "engine.recompute")
        yield Given("recompute-num-layers", 1, "engine.recompute")


def _optimiser(stage: TrainingConfig) -> Iterator[Given]:
    yield Given("optimizer", "adam", "stage")
    yield Given("lr", stage.lr, "stage.lr")
    yield Given("lr-decay-style", stage.schedule.value, "stage.schedule")
    if stage.warmup:
        yield Given("lr-warmup-fraction", stage.warmup, "stage.warmup")
    yield Given("weight-decay", stage.weight_decay, "stage.weight_decay")
    yield Given("adam-beta1", stage.beta1, "stage.beta1")
    yield Given("adam-beta2", stage.beta2, "stage.beta2")
    yield Given("adam-eps", stage.epsilon, "stage.epsilon")
    yield Given("clip-grad", stage.grad_clip, "stage.grad_clip")


def _precision() -> Iterator[Given]:
    """Flags of dropout and number formats. Megatron's dropout is 0.1 by default."""
    yield Given("attention-dropout", 0.0)
    yield Given("hidden-dropout", 0.0)
    yield Given("accumulate-allreduce-grads-in-fp32", True)
    yield Given("attention-softmax-in-fp32", True)
    yield Given("attention-backend", "flash")


def _run(config: Config, folder: Path, stage: TrainingConfig) -> Iterator[Given]:
    yield Given("seed", config.seed, "seed")
    yield Given("rollout-seed", config.seed, "seed")
    yield Given("custom-config-path", str(folder / SETTINGS), "outputs")
    yield Given("data-source-path", f"{HOOKS}.DataSource", "curriculum")
    data = TASKS if isinstance(stage, GrpoConfig) else ROWS
    yield Given("prompt-data", str(folder / data), "domain")
    yield Given("input-key", "text", "domain")
    yield Given("custom-rollout-log-function-path", f"{HOOKS}.log_rollout", "logger")


def _supervised(stage: SftConfig | RftConfig) -> Iterator[Given]:
    """Rows of ours with masks of ours, no SGLang. The loss is a mean over tokens, as in the torch engine."""
    yield Given("rollout-function-path", f"{HOOKS}.sft_rollout", "stage")
    yield Given("loss-type", "sft_loss", "stage")
    yield Given("calculate-per-token-loss", True, "stage")
    yield Given("disable-compute-advantages-and-returns", True, "stage")
    yield Given("debug-train-only", True, "stage")
    yield Given("num-epoch", stage.epochs, "stage.epochs")
    yield Given("rollout-batch-size", stage.batch_size, "stage.batch_size")
    yield Given("global-batch-size", stage.batch_size, "stage.batch_size")
    yield Given("n-samples-per-prompt", 1, "stage")


def _grpo(config: Config, stage: GrpoConfig, layout: Layout) -> Iterator[Given]:
    yield from _rollouts(config, stage)
    yield from _servers(config, layout)
    episodes = (stage.prompts_per_step or 0) * stage.samples_per_prompt
    yield Given("global-batch-size", episodes // stage.updates_per_step, "stage.updates_per_step")
    yield Given("balance-data", True)
    yield Given("loss-type", "policy_loss", "stage")
    yield Given("advantage-estimator", "grpo", "stage")
    if config.reward.per_turn:
        yield Given("custom-advantage-function-path", f"{HOOKS}.turn_advantages", "reward")
    yield Given("eps-clip", stage.clip_low, "stage.clip_low")
    yield Given("eps-clip-high", stage.clip_high, "stage.clip_high")
    yield Given("entropy-coef", stage.entropy, "stage.entropy")
    if stage.kl:
        yield Given("use-kl-loss", True, "stage.kl")
        yield Given("kl-loss-coef", stage.kl, "stage.kl")
        yield Given("kl-loss-type", "low_var_kl", "stage.kl")
    if stage.tis_clip is not None:
        yield Given("use-tis", True, "stage.tis_clip")
        yield Given("tis-clip", stage.tis_clip, "stage.tis_clip")
        yield Given("tis-clip-low", 0.0, "stage.tis_clip")


def _rollouts(config: Config, stage: GrpoConfig) -> Iterator[Given]:
    if _asynchronous(config, stage):
        yield Given("rollout-function-path", FULLY_ASYNCHRONOUS, "engine.slime.asynchronous")
    elif stage.refill:
        yield Given("dynamic-sampling-filter-path", f"{HOOKS}.filter_group", "stage.refill")
    yield Given("custom-generate-function-path", f"{HOOKS}.generate", "domain")
    yield Given("custom-reward-post-process-path", f"{HOOKS}.post_process_rewards", "reward")
    yield Given("num-rollout", stage.steps, "stage.steps")
    yield Given("rollout-batch-size", stage.prompts_per_step, "stage.prompts_per_step")
    yield Given("n-samples-per-prompt", stage.samples_per_prompt, "stage.samples_per_prompt")
    yield Given("rollout-temperature", stage.temperature, "stage.temperature")
    yield Given("rollout-top-p", stage.top_p, "stage.top_p")
    yield Given("rollout-top-k", stage.top_k or -1, "stage.top_k")
    yield Given("rollout-max-response-len", config.model.max_new_tokens, "model.max_new_tokens")
    yield Given("rollout-max-context-len", config.model.context, "model.context")


def _servers(config: Config, layout: Layout) -> Iterator[Given]:
    """slime counts --sglang-server-concurrency for each server."""
    at_once = -(-config.rollout.concurrency // layout.servers)
    yield Given("sglang-server-concurrency", at_once, "rollout.concurrency")
    yield Given("sglang-mem-fraction-static", config.engine.slime.memory_fraction, "engine.slime.memory_fraction")
    yield Given("sglang-context-length", config.model.context, "model.context")
    yield Given("use-fault-tolerance", True)
    yield Given("rollout-health-check-timeout", HEALTH_SECONDS)


def _asynchronous(config: Config, stage: Any) -> bool:
    return isinstance(stage, GrpoConfig) and config.engine.slime.asynchronous
