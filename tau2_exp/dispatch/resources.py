"""The GPUs and nodes that a run's stage needs, and the GPUs that a machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tau2_exp.config import (
    Config,
    ConfigError,
    DemosConfig,
    EngineName,
    EvalConfig,
    PolicyKind,
    TrainingConfig,
)
from tau2_exp.config.paths import is_hub_name
from tau2_exp.engines.torch.choice import loads_model, read_config
from tau2_exp.system.allocation import visible_gpus

DEVICES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "kfd", "dxg")  # Nvidia, Jetson, AMD, WSL


def asks_for_gpus(config: Config) -> bool:
    """Whether a stage trains or runs a model of ours; an oracle, an API and a table need no GPU."""
    if isinstance(config.stage, (DemosConfig, EvalConfig)) and config.user.serve:
        return True
    if isinstance(config.stage, EvalConfig):
        return config.serves_policy or config.policy.kind is PolicyKind.model
    return isinstance(config.stage, TrainingConfig)


def gpus(config: Config) -> int:
    """How many GPUs of each node a stage needs."""
    return config.hardware.gpus if asks_for_gpus(config) else 0


def nodes(config: Config) -> int:
    """How many nodes a stage needs: training may take several, and a served model takes one."""
    return config.hardware.nodes if isinstance(config.stage, TrainingConfig) else 1


def check_gpus(config: Config) -> None:
    """Raises ConfigError where a stage needs GPUs that this machine lacks."""
    hardware = config.hardware
    if not hardware.device.startswith("cuda") or not asks_for_gpus(config):
        return
    if config.engine.name is EngineName.torch:
        if not sees_gpu():
            raise ConfigError(f"hardware.device={hardware.device}: there is no GPU here; use hardware=cpu")
        return
    names, own = gpu_names(), usable_gpus()
    if min(len(names), len(own)) < hardware.gpus:
        given = "" if len(own) == len(names) else f", and CUDA_VISIBLE_DEVICES={','.join(own)} leaves {len(own)}"
        raise ConfigError(f"hardware.gpus={hardware.gpus}: nvidia-smi lists {len(names)} here{given}")


def check_hub(config: Config) -> None:
    """Raises ConfigError where a model is on a hub that does not answer, and not in its cache on this machine."""
    path = config.model.path
    if config.engine.name is EngineName.torch and path and is_hub_name(path) and loads_model(config):
        read_config(path)


def sees_gpu() -> bool:
    """Whether torch may find a GPU here. False only where none can be: not all GPUs come with nvidia-smi."""
    if visible_gpus() == ():
        return False
    return bool(gpu_names()) or any(next(Path("/dev").glob(name), None) for name in DEVICES)


def usable_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    visible = visible_gpus()
    return [str(place) for place in range(len(gpu_names()))] if visible is None else list(visible)


def gpu_names() -> list[str]:
    """The names of this machine's GPUs, from nvidia-smi, which takes none of their memory; none without it."""
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [line.partition(": ")[2].partition(" (")[0] for line in listed.splitlines() if line.startswith("GPU ")]
