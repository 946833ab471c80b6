"""Small differentiable functions of the decoder, and the one that turns hidden states into what a loss needs.

On a CPU the time of these goes into passes over memory: each is written to make few of them, forward and back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tau2_exp.engines.torch.memory import CHUNK_BYTES


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + eps) · weight over the last axis (Zhang & Sennrich, 2019)."""
    if x.is_cuda:
        return F.rms_norm(x, weight.shape, weight, eps)
    if torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight, eps)
    return (x * _scale(x, eps)).to(x.dtype).mul_(weight)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split layout of Hugging Face: x [N, heads, d] by `model.rotation`'s cos and sin [N, 1, d]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) · up (Shazeer, 2020)."""
    return F.silu(gate) * up


def _scale(x: Tensor, eps: float) -> Tensor:
    """1 / √(mean x² + eps) of each line, in float32."""
    full = x.float()
    return (full * full).sum(-1, keepdim=True).mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """With x̂ = x·s: ∂x = s · (g·w − x̂ · mean(g·w·x̂)); ∂w = Σ g·x̂."""
        x, weight, scale = ctx.saved_tensors
        normed = x.float() * scale
        grad = grad.float()
        product = grad * normed
        grad_weight = product.view(-1, x.shape[-1]).sum(0)
        mean = product.mul_(weight).mean(-1, keepdim=True)
        grad_x = (grad * weight).sub_(normed.mul_(mean)).mul_(scale)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None


class _TokenStatistics(torch.autograd.Function):
    """Log-probability and entropy of given tokens, by chunks of logits, which are made again going back."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        log_probs = torch.empty(len(targets), device=hidden.device)
        entropies = torch.zeros(len(targets), device=hidden.device)
        normalisers = torch.empty(len(targets), device=hidden.device)
        for part in chunks(len(targets), head):
            logits = _logits(hidden[part], head, temperature)
            normaliser = logits.logsumexp(-1)
            normalisers[part] = normaliser
            log_probs[part] = logits.gather(-1, targets[part, None])[:, 0] - normaliser
            if entropy:
                weights = (logits - normaliser[:, None]).exp_()
                entropies[part] = normaliser - weights.mul_(logits).sum(-1)
        ctx.save_for_backward(hidden, head, targets, normalisers, entropies)
        ctx.temperature, ctx.entropy = temperature, entropy
        return log_probs, entropies

    @staticmethod
    def backward(
        ctx: Any, grad_log_probs: Tensor, grad_entropies: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None, None]:
        """∂z = (g·(onehot − p) − h·p·(log p + H)) / T, with g and h the two gradients."""
        hidden, head, targets, normalisers, entropies = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros(head.shape, device=head.device) if ctx.needs_input_grad[1] else None
        for part in chunks(len(targets), head):
            log_p = _logits(hidden[part], head, ctx.temperature).sub_(normalisers[part, None])
            g = grad_log_probs[part, None]
            if ctx.entropy:
                h = grad_entropies[part, None]
                grad = log_p.exp().mul_(log_p.add_(entropies[part, None]).mul_(h).add_(g).neg_())
            else:
                grad = log_p.exp_().mul_(-g)
            grad.scatter_add_(-1, targets[part, None], g)
            grad = grad.div_(ctx.temperature).to(head.dtype)
            grad_hidden[part] = grad @ head
            if grad_head is not None:
                grad_head += grad.T @ hidden[part]
        return grad_hidden, None if grad_head is None else grad_head.to(head.dtype), None, None, None


def token_statistics(
    hidden: Tensor, head: Tensor, targets: Tensor, temperature: float = 1.0, entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """Under softmax(hidden · headᵀ / temperature): each target's log-probability, and the entropy (0 unless asked).

    hidden [M, width], head [vocab, width], targets [M] → two float32 tensors [M], differentiable in hidden and
    head. Never holds more logits than `CHUNK_BYTES`, so that a vocabulary of 152 k costs no memory.
    """
    return _TokenStatistics.apply(hidden, head, targets, temperature, entropy)


def full_logits(hidden: Tensor, head: Tensor) -> Tensor:
    """hidden [M, width] · headᵀ [width, vocab] as float32 [M, vocab], computed in float32 whatever the weights are.

    Logits rounded to bfloat16 would move log-probabilities by more than an update does.
    """
    return F.linear(hidden.float(), head.float())


def _logits(hidden: Tensor, head: Tensor, temperature: float) -> Tensor:
    logits = full_logits(hidden, head)
    return logits if temperature == 1.0 else logits.div_(temperature)


def chunks(count: int, head: Tensor) -> list[slice]:
    """`count` tokens in pieces whose logits take at most CHUNK_BYTES."""
    size = max(1, CHUNK_BYTES[head.device.type] // (4 * head.shape[0]))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
