"""Memory for keys and values: two tensors a layer, [slots, kv_heads, length, head_dim]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tau2_exp.engines.torch.shape import ModelShape


class Slabs:
    """`layers` holds each layer's keys and values. New memory is zero: 0 · garbage could be NaN."""

    def __init__(self, shape: ModelShape, device: torch.device, dtype: torch.dtype):
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.slots = self.length = 0
        self._shape, self._device, self._dtype = shape, device, dtype

    @property
    def bytes(self) -> int:
        """What the tensors take, filled or not."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """The tensors of all layers."""
        return [tensor for pair in self.layers for tensor in pair]

    def resize(self, slots: int, length: int, filled: int) -> None:
        """Take tensors of this size, one layer after another; the first `filled` tokens of each slot are kept."""
        size = (slots, self._shape.kv_heads, length, self._shape.head_dim)
        kept = min(slots, self.slots)
        for layer in range(self._shape.layers):
            fresh = tuple(torch.zeros(size, device=self._device, dtype=self._dtype) for _ in range(2))
            if kept:
                for new, old in zip(fresh, self.layers[layer], strict=True):
                    new[:kept, :, :filled] = old[:kept, :, :filled]
            self.layers[layer : layer + 1] = [(fresh[0], fresh[1])]
        self.slots, self.length = slots, length

    def targets(self, slots: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Where each (token, head) goes in a layer's keys, or values, seen as rows of head_dim."""
        heads = self._shape.kv_heads
        slot, position = torch.tensor([slots, positions], device=self._device)
        head = torch.arange(heads, device=self._device)
        return ((slot[:, None] * heads + head) * self.length + position[:, None]).flatten()

    def write(self, layer: int, targets: Tensor, k: Tensor, v: Tensor) -> None:
        """Put the keys and values [tokens, kv_heads, head_dim] of a pass where `targets` says."""
        for slab, new in zip(self.layers[layer], (k, v), strict=True):
            slab.view(-1, slab.shape[-1]).index_copy_(0, targets, new.reshape(-1, slab.shape[-1]))
