"""What trains and generates."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class EngineName(str, Enum):
    torch = "torch"
    slime = "slime"


@dataclass
class SlimeConfig:
    """Where slime lies in its container, and how it divides a model and the GPUs."""

    root: str = "/root/slime"
    megatron: str = "/root/Megatron-LM"
    tensor_parallel: int = 2
    pipeline_parallel: int = 1
    context_parallel: int = 1
    expert_parallel: int = 1
    server_gpus: int = 2  # of one SGLang server
    memory_fraction: float = 0.70  # of a GPU, for SGLang's weights and cache
    asynchronous: bool = False  # rollouts go on while the model is trained (train_async.py); wants colocate=false
    start_seconds: int = 1800  # until a server answers, or all of Ray's nodes are there
    flags: dict[str, Any] = field(default_factory=dict)  # further flags of slime, without the dashes; checked


@dataclass
class EngineConfig:
    name: EngineName = EngineName.torch
    lockstep: bool = True  # decode only when every open episode waits: one seed, one result
    batch_tokens: int = 16384  # tokens of one forward and backward pass
    recompute: bool = False  # recompute activations in the backward pass: less memory, more time
    slime: SlimeConfig = field(default_factory=SlimeConfig)
