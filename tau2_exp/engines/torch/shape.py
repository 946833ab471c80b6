"""The sizes and switches of a dense decoder, and the same as Hugging Face's config.json.

Qwen3, Qwen2 and 2.5, Llama 2 and 3 (SmolLM2 is one) and Mistral are one architecture: RMSNorm before attention and
before a SwiGLU, rotary positions, grouped queries. They differ in the switches below.
Sources: the published checkpoints' config.json, and transformers' modelling code of each family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tau2_exp.config import ModelConfig

INIT_DEVIATION = 0.02
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # a layer's linear ones
FAMILIES = {
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
}


class NotOurs(ValueError):
    """A model that this engine's decoder does not support; the message names what it lacks."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's stretch of rotary wavelengths beyond the context of pretraining (Llama Team, 2024, section 3.4)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int  # tokens


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What makes a dense decoder: sizes, and the switches in which the families differ."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_base: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tied: bool = True
    context: int = 32768
    family: str = "qwen3"
    qk_norm: bool = True  # an RMSNorm over each head's query and key
    qkv_bias: bool = False
    out_bias: bool = False  # of the attention's output projection

    @classmethod
    def from_config(cls, config: ModelConfig, vocab_size: int) -> ModelShape:
        """The shape of a model from scratch, a Qwen3, with the vocabulary that its tokenizer really has."""
        names = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "rope_base", "tied", "context")
        return cls(vocab_size=vocab_size, **{name: getattr(config, name) for name in names})

    @classmethod
    def from_hf(cls, data: dict[str, Any]) -> ModelShape:
        """From a Hugging Face config.json. Raises NotOurs naming what the own decoder lacks, KeyError for a size."""
        family = data.get("model_type")
        if family not in FAMILIES:
            raise NotOurs(f"model_type is {family!r}, which is none of {', '.join(FAMILIES)}")
        for key, found in _unsupported(data):
            raise NotOurs(f"{key} is {found!r}")
        rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
        bias = bool(data.get("attention_bias", family == "qwen2"))
        return cls(
            vocab_size=data["vocab_size"],
            layers=data["num_hidden_layers"],
            width=data["hidden_size"],
            heads=data["num_attention_heads"],
            kv_heads=data.get("num_key_value_heads") or data["num_attention_heads"],
            head_dim=data.get("head_dim") or data["hidden_size"] // data["num_attention_heads"],
            ffn=data["intermediate_size"],
            rope_base=float(rope.get("rope_theta") or data.get("rope_theta") or 10000.0),
            rope_scaling=_scaling(rope),
            norm_eps=data.get("rms_norm_eps", 1e-6),
            tied=data.get("tie_word_embeddings", False),
            context=data.get("max_position_embeddings", 32768),
            family=family,
            qk_norm=family == "qwen3",
            qkv_bias=bias,
            out_bias=bias and family in ("llama", "qwen3"),
        )

    def to_hf(self) -> dict[str, Any]:
        """A config.json that `transformers.AutoModelForCausalLM.from_pretrained` reads."""
        rope: dict[str, Any] = {"rope_type": "default"}
        if self.rope_scaling:
            rope = {
                "rope_type": "llama3",
                "factor": self.rope_scaling.factor,
                "low_freq_factor": self.rope_scaling.low_freq_factor,
                "high_freq_factor": self.rope_scaling.high_freq_factor,
                "original_max_position_embeddings": self.rope_scaling.original_context,
            }
        data = {
            "architectures": [FAMILIES[self.family]],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn,
            "rope_theta": self.rope_base,
            "rope_parameters": rope | {"rope_theta": self.rope_base},
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "initializer_range": INIT_DEVIATION,
        }
        if self.family in ("qwen3", "llama"):
            data["attention_bias"] = self.qkv_bias
        if self.family == "mistral":
            data["sliding_window"] = None
        if self.family.startswith("qwen"):
            data["use_sliding_window"] = False
        return data


def _unsupported(data: dict[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a known family that the own decoder lacks, each with its value."""
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    window = data.get("sliding_window") if data["model_type"] == "mistral" else None
    longest = data.get("max_position_embeddings", 0)
    partial = rope.get("partial_rotary_factor") or data.get("partial_rotary_factor") or 1.0
    found = {
        "rope_type": kind if kind not in ("default", "llama3") else None,
        "partial_rotary_factor": partial if partial != 1.0 else None,
        "attention_bias": data.get("attention_bias") if data["model_type"] == "mistral" else None,
        "mlp_bias": data.get("mlp_bias"),
        "use_sliding_window": data.get("use_sliding_window"),
        "sliding_window": window if window and window < longest else None,
        "hidden_act": data.get("hidden_act") if data.get("hidden_act", "silu") != "silu" else None,
    }
    return [(key, value) for key, value in found.items() if value]


def _scaling(rope: dict[str, Any]) -> RopeScaling | None:
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return None
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    return RopeScaling(factor, low, high, int(rope["original_max_position_embeddings"]))
