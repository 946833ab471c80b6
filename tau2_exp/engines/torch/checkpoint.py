"""Checkpoints: a Hugging Face folder, with what a killed run needs to continue as if it had not been killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tau2_exp.config import Backbone, ConfigError, HardwareConfig
from tau2_exp.engines.torch.backbone import CONFIG, LanguageModel
from tau2_exp.engines.torch.choice import choose
from tau2_exp.engines.torch.device import LOADING, dtype_of, memory_for, prepare
from tau2_exp.engines.torch.hub import download
from tau2_exp.engines.torch.lora import ADAPTER
from tau2_exp.engines.torch.model import WEIGHTS, CausalLM
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.tokenizer import TextTokenizer
from tau2_exp.engines.torch.trainer import Trainer

GENERATION, INDEX = "generation_config.json", "model.safetensors.index.json"
SOURCES = (CONFIG, GENERATION)  # what others read of a model, beside its weights
MESSAGE = 300  # characters of a path, or of a library's words, in a message
Source = dict[str, dict[str, Any]]  # file name → its JSON data
TENSORS, STATE = "training.pt", "training.json"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a checkpoint holds beside the model: `Trainer.state_dict()`, and the stage's own JSON data.

    No generator's state is among it: every random number here follows from a seed and its place in the run.
    """

    trainer: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    model: LanguageModel,
    tokenizer: TextTokenizer,
    trainer: Trainer | None = None,
    extra: dict[str, Any] | None = None,
    weights: bool = True,
) -> None:
    """Write the checkpoint `folder` whole or not at all; a model's adapter lies in its folder `adapter`.

    Without `weights` an adapter is all that it holds of the model.

    It is made under another name, brought to disk, then renamed; a checkpoint that stood there is removed after.
    `progress` finds it after a kill between the two.
    """
    fresh, previous = _beside(folder, "new"), _beside(folder, "old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if model.adapter:
        model.adapter.save(fresh)
    if weights:
        model.write(fresh)
    for name, content in tokenizer.files().items():
        (fresh / name).write_text(content)
    if trainer is not None:
        torch.save(trainer.state_dict(), fresh / TENSORS)
        (fresh / STATE).write_text(json.dumps({"step": trainer.step, "extra": extra or {}}))
    _sync(fresh)
    if progress(folder) is not None:
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    fresh.rename(folder)
    _sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def drop_training(folder: Path) -> None:
    """Remove the trainer's state from a checkpoint, and keep the model: no training continues from it."""
    for name in (STATE, TENSORS):
        (folder / name).unlink(missing_ok=True)


def progress(folder: Path) -> Path | None:
    """The checkpoint at `folder`, brought back where a kill left it moved aside; None where there is none."""
    previous = _beside(folder, "old")
    if not folder.exists() and previous.exists():
        previous.rename(folder)
    return folder if folder.exists() else None


def has_training(folder: Path) -> bool:
    """Whether a checkpoint has a trainer's state."""
    return progress(folder) is not None and (folder / STATE).is_file()


def load_training(folder: Path, device: torch.device | str = "cpu") -> TrainingState | None:
    """The trainer's state in a checkpoint; None where there is no checkpoint, or it has no such state."""
    if not has_training(folder):
        return None
    trainer = torch.load(folder / TENSORS, map_location=device, weights_only=True)
    return TrainingState(trainer, json.loads((folder / STATE).read_text())["extra"])


@memory_for("loading the model", LOADING)
def load_model(path: Path | str, hardware: HardwareConfig, backbone: Backbone = Backbone.auto) -> LanguageModel:
    """A causal language model from a local folder or a hub name, on the hardware's device and in its dtype.

    Raises ConfigError in one line: no such folder, no network, no backbone that can compute it, weights that do not fit
    its config.
    """
    device = prepare(hardware)
    folder = _folder(path)
    if not (folder / CONFIG).is_file():
        if (folder / ADAPTER).is_dir():
            raise ConfigError(f"model.path={folder} holds an adapter alone; resume its run, which merges it at its end")
        raise ConfigError(f"model.path={folder} holds no {CONFIG}: not a Hugging Face checkpoint")
    try:
        source = {name: json.loads((folder / name).read_text()) for name in SOURCES if (folder / name).is_file()}
        chosen = choose(source[CONFIG], backbone)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"model.path={folder}: {CONFIG}: {error}") from None
    load = _load_own if chosen is Backbone.own else _load_theirs
    return load(folder, source, device, dtype_of(hardware))


def _load_own(folder: Path, source: Source, device: torch.device, dtype: torch.dtype) -> CausalLM:
    shape = ModelShape.from_hf(source[CONFIG])
    try:
        weights = _read_weights(folder, device, dtype)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(f"model.path={folder}: weights cannot be read: {_one_line(error)}") from None
    if shape.tied:
        weights.pop("lm_head.weight", None)
    with torch.device("meta"):
        model = CausalLM(shape)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ConfigError(f"model.path={folder}: weights do not fit {CONFIG}: {_one_line(error)}") from None
    model.source = source
    return model


def _load_theirs(folder: Path, source: Source, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    from tau2_exp.engines.torch.theirs import load_theirs

    try:
        return load_theirs(folder, source, device, dtype)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigError(f"model.path={folder}: transformers cannot load it: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:MESSAGE]


def local_folder(path: str) -> Path:
    """The folder of a checkpoint on this machine. Raises ConfigError for anything else: a hub name, a file."""
    folder = Path(path).absolute()
    try:
        found = progress(folder) is not None and (folder / CONFIG).is_file()
    except OSError:
        found = False
    if not found:
        raise ConfigError(
            f"{str(folder)[:MESSAGE]!a}: not a checkpoint's folder on this machine; hub names are not taken"
        )
    return folder


def end_ids(path: Path | str) -> tuple[int, ...]:
    """The token ids that end a text, as the checkpoint itself names them."""
    folder = _folder(path)
    for name in (GENERATION, CONFIG):
        named = json.loads((folder / name).read_text()).get("eos_token_id") if (folder / name).is_file() else None
        if named is not None:
            return tuple(named) if isinstance(named, list) else (named,)
    return ()


def ending_with(shape: ModelShape, stops: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The `source` of a new model whose texts end with these token ids, so that `generate` stops at them."""
    ends = {"eos_token_id": list(stops)}
    return {CONFIG: shape.to_hf() | ends, GENERATION: ends}


def _folder(path: Path | str) -> Path:
    """Where a local folder or a hub name lies."""
    folder = Path(path)
    return folder if progress(folder) is not None else download(str(path), ["*.json", "*.safetensors", "*.jinja"])


def _read_weights(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    if (folder / INDEX).is_file():
        names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    elif (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    else:
        raise ConfigError(f"model.path={folder} holds no {WEIGHTS}")
    weights: dict[str, torch.Tensor] = {}
    for name in names:
        loaded = load_file(folder / name, device=str(device))
        weights |= {key: tensor.to(dtype) for key, tensor in loaded.items()}
    return weights


def _beside(folder: Path, kind: str) -> Path:
    return folder.parent / f".{folder.name}.{kind}"


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _sync(path)
        else:
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
