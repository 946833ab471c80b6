"""What a language model is to this engine: rows to learn from, sessions to sample for, a folder to be saved in.

Two do it: the own decoder (`model.CausalLM`) for the dense families that it covers, and any causal language model of
transformers (`theirs.TransformersLM`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tau2_exp.config import ConfigError
from tau2_exp.engines.torch.cache import Row as CacheRow
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.room import Room
from tau2_exp.types import Row

CONFIG = "config.json"


class Batch(Protocol):
    """A micro-batch: of its rows' trained tokens, row by row, what was recorded; float32 [T]."""

    log_probs: Tensor
    advantages: Tensor


class SessionCache(Protocol):
    """What a model keeps of its sessions' contexts, a row each. `Row.ids` are the tokens that a row holds."""

    @property
    def bytes(self) -> int:
        """What it takes, filled or not."""

    def held(self, ids: Sequence[int]) -> int:
        """How many tokens of a new context a row for it would have at least."""

    def has_room(self, ids: Sequence[int]) -> bool:
        """Whether memory allows one more row, for the context `ids`."""

    def acquire(self, ids: Sequence[int], waiting: Sequence[Sequence[int]] = ()) -> CacheRow:
        """A new row for the context `ids`, which holds what the cache has of its beginning, and never all of it.

        `waiting` are the contexts that come next. Where there are such, the row has to be fed in the next pass.
        """

    def release(self, row: Any) -> None:
        """Free a row."""

    def cut(self, row: Any, count: int) -> int:
        """Keep a row's first `count` tokens; how many are kept, which may be none."""

    def order(self, active: Sequence[Any]) -> None:
        """Called before each pass with the rows that decode: a chance to move rows about."""


class LanguageModel(nn.Module, ABC):
    """A causal language model. `recompute` drops activations in training and computes them again going backward.

    `source` is what it came with beside its weights: file name → JSON data of config.json and its like.
    Where it has an `adapter`, that is trained in place of the weights.
    """

    def __init__(self, recompute: bool = False):
        super().__init__()
        self.recompute = recompute
        self.source: dict[str, dict[str, Any]] = {}
        self.adapter: Adapter | None = None

    @property
    @abstractmethod
    def head(self) -> Tensor:
        """The output matrix, [vocab_size, width]."""

    @property
    @abstractmethod
    def context(self) -> int:
        """The longest sequence that it was made for, in tokens."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What it is, as a config.json; two models of equal config can exchange weights."""

    @property
    def named(self) -> nn.Module:
        """The module whose parameters have Hugging Face's names."""
        return self

    @property
    def vocab_size(self) -> int:
        """How many token ids it has."""
        return self.head.shape[0]

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.head.device

    @property
    def weights_version(self) -> int:
        """Grows with every in-place change of a weight, an adapter's among them."""
        return sum(parameter._version for parameter in self.parameters())

    @abstractmethod
    def batches(self, rows: Sequence[Row], batch_tokens: int) -> Iterable[Any]:
        """Micro-batches of at most `batch_tokens` tokens, each a `Batch` that `statistics` reads.

        A longer row makes one of its own; rows without a trained token are left out. Raises ValueError where a row's
        first token is to be trained.
        """

    @abstractmethod
    def statistics(self, batch: Any, temperature: float = 1.0, entropy: bool = False) -> tuple[Tensor, Tensor]:
        """Of the rows' trained tokens, in the batch's order: log-probability, and entropy (0 unless asked).

        Both are float32 [T], under softmax(logits / temperature), and carry gradients.
        """

    @abstractmethod
    def new_cache(self, room: Room) -> SessionCache:
        """An empty cache, for as many sessions as `room` allows."""

    @abstractmethod
    def next_logits(
        self, cache: Any, decodes: Sequence[Any], prefills: Sequence[tuple[Any, int]], ids: Sequence[int]
    ) -> Tensor:
        """Logits of each row's next token, float32 [rows, vocab_size]; the rows then hold what they were fed.

        `ids` has one token for each row of `decodes`, then as many for each row of `prefills` as its count.
        """

    def weights(self) -> dict[str, Tensor]:
        """The weights under Hugging Face's names, an adapter's product added."""
        return self.adapter.merged() if self.adapter else self.named.state_dict()

    @abstractmethod
    def write_weights(self, folder: Path) -> None:
        """Write `weights` to a folder, as `from_pretrained` reads them."""

    def write(self, folder: Path) -> None:
        """Write the weights, an adapter merged into them, and what the model came with, for `from_pretrained`."""
        self.write_weights(folder)
        dtype = str(self.head.dtype).removeprefix("torch.")
        source = {CONFIG: self.config} | self.source
        source[CONFIG] = source[CONFIG] | {"dtype": dtype, "torch_dtype": dtype}
        for name, data in source.items():
            (folder / name).write_text(json.dumps(data, indent=2))


def check_context(model: LanguageModel, context: int) -> None:
    """Raises ConfigError where episodes may grow longer than the model was made for."""
    if context > model.context:
        raise ConfigError(f"model.context={context}: the model was made for {model.context} tokens; lower it")
