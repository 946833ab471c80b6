"""A dense decoder as plain torch: it trains on packed rows and decodes from a cache.

One architecture with the switches of `shape.ModelShape`. Parameter names are Hugging Face's, the same in every family,
so weights pass either way without a map. Sources: Qwen3 Technical Report (2025), Llama 3 (Llama Team, 2024), and
transformers' modelling code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.utils.checkpoint import checkpoint

from tau2_exp.engines.torch.kernels import full_logits, rms_norm, rotate, swiglu
from tau2_exp.engines.torch.shape import INIT_DEVIATION, ModelShape, RopeScaling

# (layer, q [N, heads, d], k [N, kv_heads, d], v [N, kv_heads, d]) → [N, heads, d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    """x / √(mean x² + eps) · weight over the last axis (Zhang & Sennrich, 2019); `weight` is learned."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] → normalised, the same shape."""
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al., 2023) with RoPE; the shape decides on norms of queries and keys."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_dim, bias=shape.qkv_bias)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=shape.qkv_bias)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=shape.qkv_bias)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=shape.out_bias)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_eps) if shape.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_eps) if shape.qk_norm else nn.Identity()

    def forward(self, layer: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """x [N, width] → the output of attention [N, heads · head_dim], before `o_proj`."""
        split = (x.shape[0], -1, self.head_dim)
        q = rotate(self.q_norm(self.q_proj(x).view(split)), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(split)), cos, sin)
        v = self.v_proj(x).view(split)
        return attend(layer, q, k, v).reshape(x.shape[0], -1)


class FeedForward(nn.Module):
    """The feed-forward block with SwiGLU (Shazeer, 2020)."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, width] → [N, width]."""
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class Layer(nn.Module):
    """One decoder layer: attention, then feed-forward, each on normalised input and added to the residual."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)

    def forward(
        self, layer: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, keep: Tensor | None = None
    ) -> Tensor:
        """x [N, width] → [N, width], or [M, width] of the tokens `keep` [M]; the others give only keys and values."""
        gathered = self.self_attn(layer, self.input_layernorm(x), cos, sin, attend)
        if keep is not None:
            x, gathered = x.index_select(0, keep), gathered.index_select(0, keep)
        x = x + self.self_attn.o_proj(gathered)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The embedding, the layers and the last norm, under Hugging Face's names; `CausalLM` runs them."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)


class CausalLM(nn.Module):
    """The causal language model. `recompute` drops activations in training and computes them again going backward."""

    def __init__(self, shape: ModelShape, recompute: bool = False):
        super().__init__()
        self.shape = shape
        self.recompute = recompute
        self.source: dict[str, dict[str, Any]] = {}  # config.json and its like, as the model came with them
        self.model = Decoder(shape)
        if not shape.tied:
            self.lm_head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocab_size, width]."""
        return self.model.embed_tokens.weight if self.shape.tied else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
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

        Segment i continues the segments `ancestors[i]`, from the root on, and attends to them and itself alone.
        Without `ancestors` each segment is a sequence of its own.
        """
        paths = [()] * len(lengths) if ancestors is None else ancestors
        starts = [sum(lengths[number] for number in path) for path in paths]
        spans = [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        return self.hidden(ids, torch.cat(spans).to(ids.device), tree_attention(lengths, paths), keep)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits, float32 [M, vocab_size], of hidden states [M, width]."""
        return full_logits(hidden, self.head)


def rotation(positions: Tensor, shape: ModelShape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of RoPE's angles for `rotate`, each [N, 1, head_dim]: both halves alike, sin negated in the first."""
    exponent = torch.arange(0, shape.head_dim, 2, device=positions.device, dtype=torch.float32) / shape.head_dim
    frequencies = 1.0 / shape.rope_base**exponent
    if shape.rope_scaling:
        frequencies = _stretched(frequencies, shape.rope_scaling)
    angles = (positions[:, None].float() * frequencies)[:, None]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3's frequencies: long wavelengths are stretched by `factor`, short ones stay, those between are blended."""
    turns = scaling.original_context * frequencies / (2 * torch.pi)  # of each angle, over the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return kept * frequencies + (1.0 - kept) * frequencies / scaling.factor


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
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return attend_last(q, k, v)[0].transpose(0, 1)


def attend_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by heads: q [1, heads, L, d], k and v [1, kv_heads, S, d] → [1, heads, L, d].

    A mask that lies in memory is never given beside `enable_gqa`: on a GPU that pair gets the slowest kernel. There
    flash attention makes the mask itself; elsewhere the heads that share keys become more queries.
    """
    rows, columns, device = q.shape[2], k.shape[2], q.device
    if rows == columns:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    if device.type == "cuda":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(rows, columns), enable_gqa=True)
    mask = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    shared = q.shape[1] // k.shape[1]
    grouped = q.reshape(1, k.shape[1], shared * rows, -1)
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask.repeat(shared, 1)).reshape(q.shape)


def new_model(shape: ModelShape, seed: int, recompute: bool = False) -> CausalLM:
    """A model with random weights, N(0, 0.02²) as in Qwen3's config; norms are ones, biases are torch's defaults."""
    model = CausalLM(shape, recompute)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, INIT_DEVIATION, generator=generator)
    return model
