"""What engine=torch can compute; read without torch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tau2_exp.config import Backbone, Config, ConfigError
from tau2_exp.config.paths import is_hub_name
from tau2_exp.engines.torch.choice import choose, loads_model, read_config, trains
from tau2_exp.engines.torch.hub import Unreachable
from tau2_exp.engines.torch.sampler import sampler_rules
from tau2_exp.engines.torch.shape import LINEAR

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # read by transformers alone
TOKENIZER = "tokenizer.json"


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong. A hub that does not answer is none: see `choice.told`."""
    hardware, model, backbone = config.hardware, config.model, config.engine.backbone
    for name, value in (("gpus", hardware.gpus), ("nodes", hardware.nodes)):
        if value > 1:
            yield f"hardware.{name}={value}: engine=torch computes on one device; use engine=slime, or hardware=gpu_1"
    if not model.path and model.experts:
        yield f"model.experts={model.experts}: random weights are those of a dense model; give model.path=FOLDER"
    if not model.path and not config.parent and backbone is Backbone.transformers:
        yield "engine.backbone=transformers: random weights are the own decoder's; give model.path=FOLDER, or remove it"
    if model.path and loads_model(config):
        yield from _checkpoint(model.path, backbone, model.context)
    yield from sampler_rules(config)
    if model.lora and trains(config):
        yield from _lora(config)


def _checkpoint(path: str, backbone: Backbone, context: int) -> Iterator[str]:
    try:
        data = read_config(path)
        chosen = choose(data, backbone)
    except Unreachable:
        return
    except ConfigError as error:
        yield str(error)
    except KeyError as error:
        yield f"model.path={path}: config.json has no {error.args[0]}"
    except (ValueError, OSError) as error:
        yield f"model.path={path}: {error}"
    else:
        most = data.get("max_position_embeddings")
        if isinstance(most, int) and context > most:
            yield f"model.context={context}: {path} was made for {most} tokens; lower it"
        if not is_hub_name(path):
            yield from _files(Path(path), chosen)


def _files(folder: Path, backbone: Backbone) -> Iterator[str]:
    """What a local folder lacks beside its config.json."""
    weights = WEIGHTS if backbone is Backbone.own else (*WEIGHTS, *PICKLED)
    if not any((folder / name).is_file() for name in weights):
        yield f"model.path={folder}: holds no weights ({WEIGHTS[0]})"
    if not (folder / TOKENIZER).is_file():
        yield f"model.path={folder}: holds no {TOKENIZER}"


def _lora(config: Config) -> Iterator[str]:
    model = config.model
    if find_spec("peft") is None:
        yield f"model.lora={model.lora}: needs peft, which is not installed; pip install 'tau2_exp[hf]'"
    lacking = [target for target in model.lora_targets if target.rpartition(".")[2] not in LINEAR]
    if lacking and _is_own(config):
        given = f"model.lora_targets=[{','.join(model.lora_targets)}]"
        yield f"{given}: the model has no linear layer {', '.join(lacking)} in its blocks; it has {', '.join(LINEAR)}"


def _is_own(config: Config) -> bool:
    """Whether the own decoder is known to compute the model; the layers of others are seen when they are loaded."""
    if not config.model.path:
        return config.engine.backbone is not Backbone.transformers
    try:
        return choose(read_config(config.model.path), config.engine.backbone) is Backbone.own
    except Unreachable:
        return False
