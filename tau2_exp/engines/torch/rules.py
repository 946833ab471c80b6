"""What engine=torch can compute; read without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tau2_exp.config import Config, EvalConfig, PolicyKind, TrainingConfig, stages_of
from tau2_exp.config.paths import is_hub_name


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    hardware, model = config.hardware, config.model
    for name, value in (("gpus", hardware.gpus), ("nodes", hardware.nodes)):
        if value > 1:
            yield f"hardware.{name}={value}: engine=torch computes on one device; use engine=slime, or hardware=gpu_1"
    if model.experts:
        yield f"model.experts={model.experts}: engine=torch has no mixtures of experts; use engine=slime"
    if model.lora and _trains(config) and find_spec("peft") is None:
        yield f"model.lora={model.lora}: needs peft, which is not installed; pip install 'tau2_exp[hf]'"
    if model.path and not is_hub_name(model.path) and _loads_model(config):
        yield from _checkpoint(model.path)


def _loads_model(config: Config) -> bool:
    played = isinstance(config.stage, EvalConfig) and config.policy.kind is PolicyKind.model
    return played or _trains(config)


def _trains(config: Config) -> bool:
    return any(isinstance(stage, TrainingConfig) for stage, _ in stages_of(config.stage))


def _checkpoint(path: str) -> Iterator[str]:
    from tau2_exp.engines.torch.shape import ModelShape

    try:
        ModelShape.from_hf(json.loads((Path(path) / "config.json").read_text()))
    except KeyError as error:
        yield f"model.path={path}: config.json has no {error.args[0]}"
    except (ValueError, OSError) as error:
        yield f"model.path={path}: {error}"
