"""The objectives, as sums over tokens: the caller divides by the step's count of trained tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LOG_RATIO_BOUND = 20.0  # exp of more says nothing and overflows what follows


@dataclass(frozen=True, slots=True)
class Objective:
    """The coefficients of the policy loss; names and defaults are the configuration's (`GrpoConfig`)."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    entropy: float = 0.0
    tis_clip: float | None = None


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """Sums over the tokens given. Only `loss` carries a gradient."""

    loss: Tensor
    kl: Tensor
    entropy: Tensor
    clipped: Tensor
    ratio: Tensor
    drift: Tensor  # k3 estimate of KL(sampler ‖ policy): how far the policy has moved off what was sampled


def policy_loss(
    log_probs: Tensor,
    old: Tensor,
    advantages: Tensor,
    entropy: Tensor,
    reference: Tensor | None,
    objective: Objective,
) -> PolicyLoss:
    """The clipped surrogate with asymmetric bounds, plus KL to a reference, less an entropy bonus.

    All tensors are [M], per trained token. −min(r·A, clip(r, 1 − low, 1 + high)·A) with r = π/π_old: PPO (Schulman
    et al., 2017), its group-relative use GRPO (Shao et al., 2024), the unequal bounds DAPO's clip-higher (Yu et al.,
    2025). With `tis_clip` set, r is taken against the policy as it stands (value 1, gradient ∇log π) and the token
    is weighted by min(π/π_old, tis_clip), without gradient: truncated importance sampling (Ionides, 2008; for a
    sampler that differs from the trainer, Yao et al., 2025).
    """
    moved = (log_probs - old).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    ratio = moved.exp()
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    if objective.tis_clip is None:
        surrogate = torch.minimum(ratio * advantages, bounded * advantages)
        clipped = (bounded * advantages < ratio * advantages).sum()
    else:
        weight = ratio.detach().clamp(max=objective.tis_clip)
        surrogate = weight * advantages * (log_probs - log_probs.detach()).exp()
        clipped = (ratio > objective.tis_clip).sum()
    loss = -surrogate.sum() - objective.entropy * entropy.sum()
    kl = torch.zeros_like(loss)
    if reference is not None:
        kl = k3(log_probs, reference).sum()
        loss = loss + objective.kl * kl
    return PolicyLoss(
        loss, kl.detach(), entropy.detach().sum(), clipped, ratio.detach().sum(), k3(old, log_probs).detach().sum()
    )


def k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's low-variance estimate of KL(π ‖ reference) from tokens of π: e^d − d − 1, d = log ref − log π."""
    difference = (reference - log_probs).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return difference.exp() - difference - 1
