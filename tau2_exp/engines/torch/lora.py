"""Low-rank adapters (LoRA; Hu et al., 2021) by peft: small matrices that are trained beside weights that stay."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tau2_exp.config import ConfigError, ModelConfig
from tau2_exp.types import stable_seed

if TYPE_CHECKING:
    from tau2_exp.engines.torch.backbone import LanguageModel

ADAPTER = "adapter"  # in a checkpoint: a folder as peft writes it
WEIGHTS = "adapter_model.safetensors"  # peft's name; its settings lie beside it
NAME = "default"  # peft's, of a model's only adapter


class Adapter:
    """The adapter of one model: to W·x of each target layer it adds alpha/rank · B·A·x, in float32.

    peft's layers take the place of the model's own. A is random by `seed`, and B is zero, so that a new adapter
    changes nothing. `base` says where the frozen weights are from: a folder or a hub name.
    Raises ConfigError where the model lacks a target, or peft takes none of them.
    """

    def __init__(self, model: LanguageModel, config: ModelConfig, seed: int, base: str):
        from peft import LoraConfig, PeftModel
        from peft.tuners.lora import LoraLayer

        assert config.lora is not None
        self._settings = LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
            r=config.lora,
            lora_alpha=config.lora_alpha or 2 * config.lora,
            lora_dropout=config.lora_dropout,
            target_modules=_targets(model, config.lora_targets),
        )
        self._seed = seed
        torch.manual_seed(stable_seed(seed, "lora"))
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # between peft and transformers
                self._peft: Any = PeftModel(model.named, self._settings)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"model.lora={config.lora}: {reason}; give other model.lora_targets") from None
        found = model.named.named_modules()
        self._layers: dict[str, Any] = {name: layer for name, layer in found if isinstance(layer, LoraLayer)}
        self._dropout = _Dropout()
        for layer in self._layers.values():
            layer.lora_dropout[NAME] = self._dropout

    def __str__(self) -> str:
        trained, total = self._peft.get_nb_trainable_parameters()
        targets = ", ".join(sorted(self._settings.target_modules or ()))
        return f"LoRA of rank {self._settings.r} on {targets}: {trained:,} of {total:,} parameters are trained"

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model without its adapter: its base."""
        self._peft.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            self._peft.base_model.enable_adapter_layers()

    @contextmanager
    def dropout(self, step: int) -> Iterator[None]:
        """The adapter's dropout, drawn by the seed and the step; outside of this nothing is dropped."""
        torch.manual_seed(stable_seed(self._seed, "lora dropout", step))
        self._dropout.share = self._settings.lora_dropout
        try:
            yield
        finally:
            self._dropout.share = 0.0

    @torch.no_grad()
    def merged(self) -> dict[str, Tensor]:
        """The weights with the adapter's product added, under the names of a model without one; those are copies."""
        weights = {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in self._peft.base_model.model.state_dict().items()
            if ".lora_" not in name
        }
        for name, layer in self._layers.items():
            weight = weights[f"{name}.weight"]
            change = layer.get_delta_weight(NAME)
            weights[f"{name}.weight"] = (weight.float() + change).to("cpu", weight.dtype)
        return weights

    def save(self, checkpoint: Path) -> None:
        """Write the adapter into a checkpoint as peft does, for `PeftModel.from_pretrained` on the base."""
        from peft import get_peft_model_state_dict

        folder = checkpoint / ADAPTER
        self._settings.save_pretrained(str(folder))
        tensors = get_peft_model_state_dict(self._peft, save_embedding_layers=False)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)

    def load(self, checkpoint: Path) -> None:
        """Take the weights of an adapter of the same settings that `save` wrote into a checkpoint."""
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self._peft, load_file(checkpoint / ADAPTER / WEIGHTS))


class _Dropout(nn.Module):
    """Dropout by `share` alone, whatever the mode: transformers changes modes to recompute activations."""

    share = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.share) if self.share else x


def _targets(model: LanguageModel, given: Sequence[str]) -> list[str]:
    """The last parts of the target layers' names: those given, else all linear layers but the output's.

    The output layer takes no adapter: it is often the input embedding too.
    """
    layers = [
        name
        for name, layer in model.named.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight is not model.head
    ]
    missing = [target for target in given if not any(f".{name}".endswith(f".{target}") for name in layers)]
    known = sorted({name.rpartition(".")[2] for name in layers})
    if missing:
        raise ConfigError(
            f"model.lora_targets=[{','.join(given)}]: the model has no linear layer {', '.join(missing)} that an "
            f"adapter can stand beside; it has {', '.join(known)}"
        )
    return list(given) or known
