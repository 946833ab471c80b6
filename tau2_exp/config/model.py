"""Which model learns or is evaluated, and how its turns are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class ProtocolName(str, Enum):
    single_action = "single_action"
    native = "native"


@dataclass
class ModelConfig:
    name: str = MISSING
    path: str | None = None  # a local folder or a hub name; null: from scratch with the sizes below
    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 384
    vocab_size: int = 1900  # an upper bound where the tokenizer is trained from scratch
    rope_base: float = 10000.0
    tied: bool = True
    experts: int = 0  # of each layer; 0: dense
    experts_per_token: int = 0
    expert_ffn: int = 0
    context: int = 32768  # tokens an episode may hold
    max_new_tokens: int = 1024  # tokens a turn may have
    protocol: ProtocolName = ProtocolName.single_action
    schemas: bool = True  # list the tools' schemas in the system prompt
