"""A model's sizes as Megatron's flags: Qwen3, dense or a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tau2_exp.config import ModelConfig

NORM_EPSILON = 1e-6  # of every Qwen3


class Given(NamedTuple):
    """A flag, its value, and the setting that decides it; where none does, engine.slime.flags may."""

    flag: str
    value: object
    setting: str | None = None


def model_flags(model: ModelConfig) -> Iterator[Given]:
    """The model's sizes as flags: Megatron reads none from the checkpoint, and slime refuses differing ones."""
    sizes = {
        "num-layers": ("layers", model.layers),
        "hidden-size": ("width", model.width),
        "ffn-hidden-size": ("ffn", model.ffn),
        "num-attention-heads": ("heads", model.heads),
        "num-query-groups": ("kv_heads", model.kv_heads),
        "kv-channels": ("head_dim", model.head_dim),
        "vocab-size": ("vocab_size", model.vocab_size),
        "rotary-base": ("rope_base", int(model.rope_base)),
    }
    for flag, (name, value) in sizes.items():
        yield Given(flag, value, f"model.{name}")
    yield Given("norm-epsilon", NORM_EPSILON, "model")
    yield Given("normalization", "RMSNorm", "model")
    for switch in ("swiglu", "group-query-attention", "qk-layernorm", "disable-bias-linear"):
        yield Given(switch, True, "model")
    if not model.tied:
        yield Given("untie-embeddings-and-output-weights", True, "model.tied")
    yield from _experts(model) if model.experts else [Given("use-rotary-position-embeddings", True, "model")]


def _experts(model: ModelConfig) -> Iterator[Given]:
    yield Given("position-embedding-type", "rope", "model")
    yield Given("rotary-percent", 1.0, "model")
    yield Given("num-experts", model.experts, "model.experts")
    yield Given("moe-router-topk", model.experts_per_token, "model.experts_per_token")
    yield Given("moe-ffn-hidden-size", model.expert_ffn, "model.expert_ffn")
    yield Given("moe-layer-freq", [1] * model.layers, "model.experts")
    yield Given("moe-router-score-function", "softmax", "model")
    yield Given("moe-router-dtype", "fp32")
    yield Given("moe-token-dispatcher-type", "alltoall")
    yield Given("moe-token-drop-policy", "probs")
    yield Given("moe-aux-loss-coeff", 0.0)
    yield Given("moe-grouped-gemm", True)
    yield Given("moe-permute-fusion", True)
