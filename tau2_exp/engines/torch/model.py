"""A dense decoder as plain torch: it trains on packed rows and decodes from a cache.

One architecture with the switches of `shape.ModelShape`. Parameter names are Hugging Face's, the same in every family,
so weights pass either way without a map. Sources: Qwen3 Technical Report (2025), Llama 3 (Llama Team, 2024), and
transformers' modelling code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tau2_exp.engines.torch.attention import Attend, tree_attention
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.engines.torch.cache import Cache
from tau2_exp.engines.torch.cache import Row as CacheRow
from tau2_exp.engines.torch.kernels import full_logits, rms_norm, rotate, swiglu, token_statistics
from tau2_exp.engines.torch.memory import repeated_share
from tau2_exp.engines.torch.packing import Packed, pack
from tau2_exp.engines.torch.room import Room
from tau2_exp.engines.torch.shape import INIT_DEVIATION, ModelShape, RopeScaling
from tau2_exp.types import Row

WEIGHTS = "model.safetensors"


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


class CausalLM(LanguageModel):
    """The engine's own language model: rows are packed and share prefixes in training, and are batched in decoding."""

    def __init__(self, shape: ModelShape, recompute: bool = False):
        super().__init__(recompute)
        self.shape = shape
        self.model = Decoder(shape)
        if not shape.tied:
            self.lm_head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocab_size, width]."""
        return self.model.embed_tokens.weight if self.shape.tied else self.lm_head.weight

    @property
    def context(self) -> int:
        """The longest sequence that it was made for, in tokens."""
        return self.shape.context

    @property
    def config(self) -> dict[str, Any]:
        """Its shape as a config.json."""
        return self.shape.to_hf()

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

    def batches(self, rows: Sequence[Row], batch_tokens: int) -> Iterator[Packed]:
        """Micro-batches in which a prefix that rows share is there once; see `packing`."""
        repeated = repeated_share(self.shape, self.head.element_size())
        return (Packed(batch, self.device) for batch in pack(rows, batch_tokens, repeated))

    def statistics(self, batch: Packed, temperature: float = 1.0, entropy: bool = False) -> tuple[Tensor, Tensor]:
        """See `LanguageModel.statistics`. Logits exist once for each distinct trained token."""
        hidden = self.packed(batch.ids, batch.lengths, batch.before, batch.ancestors)
        log_probs, entropies = token_statistics(hidden, self.head, batch.targets, temperature, entropy)
        return log_probs[batch.index], entropies[batch.index]

    def new_cache(self, room: Room) -> Cache:
        """An empty cache of keys and values."""
        return Cache(self.shape, self.device, self.head.dtype, room)

    def next_logits(
        self, cache: Cache, decodes: Sequence[CacheRow], prefills: Sequence[tuple[CacheRow, int]], ids: Sequence[int]
    ) -> Tensor:
        """See `LanguageModel.next_logits`. All rows are one pass."""
        counts = [(row, 1) for row in decodes] + list(prefills)
        positions = [place for row, count in counts for place in range(len(row.ids), len(row.ids) + count)]
        attend = cache.step(decodes, prefills, ids)
        tokens, places = torch.tensor([ids, positions], device=self.device)
        ends = None
        if len(ids) > len(counts):
            ends = torch.tensor([count for _, count in counts], device=tokens.device).cumsum(0) - 1
        return self.logits(self.hidden(tokens, places, attend, ends))

    def write_weights(self, folder: Path) -> None:
        """The weights under Hugging Face's names, in one file."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.weights().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


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


def new_model(shape: ModelShape, seed: int, recompute: bool = False) -> CausalLM:
    """A model with random weights, N(0, 0.02²) as in Qwen3's config; norms are ones, biases are torch's defaults."""
    model = CausalLM(shape, recompute)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, INIT_DEVIATION, generator=generator)
    return model
