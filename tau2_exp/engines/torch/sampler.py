"""engine.sampler=sglang: a local SGLang server samples a stage's turns, started for the run; read without torch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from tau2_exp.config import (
    Config,
    ConfigError,
    CustomConfig,
    EngineName,
    EvalConfig,
    GrpoConfig,
    PointChoice,
    RewardKind,
    RftConfig,
    Sampler,
    stages_of,
)
from tau2_exp.system.quoting import shell

SAMPLE = (RftConfig, GrpoConfig, EvalConfig, CustomConfig)  # the stages in which a model samples


def is_served(config: Config) -> bool:
    """Whether a server samples in the stage of this configuration, and engine=torch does all else."""
    return config.engine.name is EngineName.torch and config.serves_policy and isinstance(config.stage, SAMPLE)


def serve_command(config: Config, model: str) -> tuple[str, ...]:
    """The command that serves `model`, a folder or a hub name, on the run's device and in its numbers."""
    argv = ["python", "-m", "tau2_exp", "serve", model, "--engine", "sglang"]
    argv += ["--context", str(config.model.context), "--at-once", str(config.rollout.concurrency)]
    kind, _, number = config.hardware.device.partition(":")
    if kind == "cuda":
        argv += ["--gpus", number or "0", "--memory-fraction", str(config.engine.sampler_memory)]
    return (*argv, f"--flags=--dtype {config.hardware.dtype.value}")


def told_sampler(config: Config, model: str) -> str:
    """The plan's line about the server of a stage that is served."""
    return f"sampler of {config.stage.name}: {shell(serve_command(config, model))} (the run starts and ends it)"


def check_sampler(config: Config) -> None:
    """Raises ConfigError where the stage's turns are to be sampled by SGLang, and it is not installed here."""
    if is_served(config) and find_spec("sglang") is None:
        raise ConfigError("engine.sampler=sglang: SGLang is not installed here; install it, or remove the setting")


def sampler_rules(config: Config) -> Iterator[str]:
    """One line for each thing that a server of turns cannot do."""
    if config.engine.sampler is Sampler.torch or config.reward.kind is not RewardKind.branch:
        return
    for stage, prefix in stages_of(config.stage):
        if isinstance(stage, GrpoConfig) and stage.branch.choice is PointChoice.entropy:
            given = f"{prefix}branch.choice={stage.branch.choice.value}"
            yield f"{given}: SGLang tells no entropies; use {prefix}branch.choice=random, or engine.sampler=torch"
