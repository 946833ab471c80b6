"""Qwen3 as plain torch: one decoder that trains on packed rows and decodes from a cache.

Parameter names are Hugging Face's (`Qwen3ForCausalLM`), so weights pass either way without a map.
Source of the architecture: Qwen3 Technical Report (2025), and the published checkpoints' config.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.utils.checkpoint import checkpoint

from tau2_exp.config import ModelConfig
from tau2_exp.engines.torch.kernels import rms_norm, rotate, swiglu

# (layer, q [N, heads, d], k [N, kv_heads, d], v [N, kv_heads, d]) → [N, heads, d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

INIT_DEVIATION = 0.02


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that make a Qwen3."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-6
    tied: bool = True
    context: int = 32768

    @classmethod
    def from_config(cls, config: ModelConfig, vocab_size: int) -> ModelShape:
        """The shape of a model from scratch, with the vocabulary that its tokenizer really has."""
        names = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "rope_base", "tied", "context")
        return cls(vocab_size=vocab_size, **{name: getattr(config, name) for name in names})

    @classmethod
    def from_hf(cls, data: dict[str, Any]) -> ModelShape:
        """From a Hugging Face config.json. Raises ValueError naming what is not a dense Qwen3."""
        if data.get("model_type") != "qwen3":
            raise ValueError(f"not a Qwen3 model: model_type is {data.get('model_type')!r}")
        rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        for problem, found in (
            ("rope_type", kind if kind != "default" else None),
            ("attention_bias", data.get("attention_bias")),
            ("use_sliding_window", data.get("use_sliding_window")),
        ):
            if found:
                raise ValueError(f"this Qwen3 needs {problem}={found!r}, which is not supported")
        return cls(
            vocab_size=data["vocab_size"],
            layers=data["num_hidden_layers"],
            width=data["hidden_size"],
            heads=data["num_attention_heads"],
            kv_heads=data["num_key_value_heads"],
            head_dim=data.get("head_dim") or data["hidden_size"] // data["num_attention_heads"],
            ffn=data["intermediate_size"],
            rope_base=float(rope.get("rope_theta", data.get("rope_theta", 10000.0))),
            norm_eps=data.get("rms_norm_eps", 1e-6),
            tied=data.get("tie_word_embeddings", False),
            context=data.get("max_position_embeddings", 32768),
        )

    def to_hf(self) -> dict[str, Any]:
        """A config.json that `transformers.AutoModelForCausalLM.from_pretrained` reads."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn,
            "rope_theta": self.rope_base,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_base},
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "initializer_range": INIT_DEVIATION,
        }


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, shape: ModelShape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=False)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_eps)

    def forward(self, layer: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """What each token gathered from those before it, [N, heads · head_dim], before `o_proj`."""
        split = (x.shape[0], -1, self.head_dim)
        q = rotate(self.q_norm(self.q_proj(x).view(split)), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(split)), cos, sin)
        v = self.v_proj(x).view(split)
        return attend(layer, q, k, v).reshape(x.shape[0], -1)


class FeedForward(nn.Module):
    def __init__(self, shape: ModelShape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class Layer(nn.Module):
    def __init__(self, shape: ModelShape):
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)

    def forward(
        self, layer: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, keep: Tensor | None = None
    ) -> Tensor:
        """[N, width], or [M, width] of the tokens `keep` [M]: the others give their keys and values, and no more."""
        gathered = self.self_attn(layer, self.input_layernorm(x), cos, sin, attend)
        if keep is not None:
            x, gathered = x.index_select(0, keep), gathered.index_select(0, keep)
        x = x + self.self_attn.o_proj(gathered)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, shape: ModelShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)


class Qwen3(nn.Module):
    """The causal language model. `recompute` drops activations in training and makes them again going backward."""

    def __init__(self, shape: ModelShape, recompute: bool = False):
        super().__init__()
        self.shape = shape
        self.recompute = recompute
        self.model = Decoder(shape)
        if not shape.tied:
            self.lm_head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocab_size, width]."""
        return self.model.embed_tokens.weight if self.shape.tied else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        return self.head.device

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend, keep: Tensor | None = None) -> Tensor:
        """Hidden states after the last norm, of packed tokens `ids` [N] at `positions` [N].

        [N, width], or [M, width] at the places `keep` [M] alone, which spares the others most of the last layer.
        """
        x = self.model.embed_tokens(ids)
        cos, sin = rotation(positions, self.shape, x.dtype)
        for index, layer in enumerate(self.model.layers):
            kept = keep if index == self.shape.layers - 1 else None
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, index, x, cos, sin, attend, kept, use_reentrant=False)
            else:
                x = layer(index, x, cos, sin, attend, kept)
        return self.model.norm(x)

    def packed(
        self,
        ids: Tensor,
        lengths: Sequence[int],
        keep: Tensor | None = None,
        ancestors: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Hidden states of segments laid end to end in `ids` [N]; `keep` as in `hidden`.

        Segment i goes on where the segments `ancestors[i]`, from the root on, end, and sees them and itself alone.
        Without `ancestors` each is a sequence of its own.
        """
        paths = [()] * len(lengths) if ancestors is None else ancestors
        starts = [sum(lengths[number] for number in path) for path in paths]
        spans = [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        return self.hidden(ids, torch.cat(spans).to(ids.device), tree_attention(lengths, paths), keep)

    def logits(self, hidden: Tensor) -> Tensor:
        """[M, vocab_size], for those hidden states alone that a caller picked."""
        return F.linear(hidden, self.head)


def rotation(positions: Tensor, shape: ModelShape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of RoPE's angles for `rotate`, each [N, 1, head_dim]: both halves alike, sin negated in the first."""
    exponent = torch.arange(0, shape.head_dim, 2, device=positions.device, dtype=torch.float32) / shape.head_dim
    angles = (positions[:, None].float() * (1.0 / shape.rope_base**exponent))[:, None]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def tree_attention(lengths: Sequence[int], ancestors: Sequence[Sequence[int]]) -> Attend:
    """Causal attention of each packed segment to its ancestors and itself: exact, no padding."""
    sizes = list(lengths)

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys, values = q.split(sizes), k.split(sizes), v.split(sizes)

        def along(path: Sequence[int], parts: Sequence[Tensor], own: int) -> Tensor:
            return torch.cat([*(parts[number] for number in path), parts[own]]) if path else parts[own]

        return torch.cat(
            [causal_attention(queries[i], along(p, keys, i), along(p, values, i)) for i, p in enumerate(ancestors)]
        )

    return attend


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last L tokens of a sequence of S: q [L, heads, d], k and v [S, kv_heads, d] → [L, heads, d]."""
    mask = None if len(q) == len(k) else _last_rows(len(q), len(k), q.device)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    return attended[0].transpose(0, 1)


def _last_rows(rows: int, columns: int, device: torch.device) -> Tensor:
    """The last `rows` of a square causal mask. On a GPU torch's own, which flash attention needs not hold in memory."""
    if device.type == "cuda":
        return causal_lower_right(rows, columns)
    return torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)


def new_model(shape: ModelShape, seed: int, recompute: bool = False) -> Qwen3:
    """A model with random weights, N(0, 0.02²) as Qwen3's config says; norms are ones. One seed, one model."""
    model = Qwen3(shape, recompute)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, INIT_DEVIATION, generator=generator)
    return model
