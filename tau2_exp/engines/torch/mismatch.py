"""How well trainer and sampler agree: GRPO's ratios are as wrong as their log-probabilities differ."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Mismatch:
    """The trainer's log-probabilities against those that the sampler recorded, before the first update of a step.

    The weights are the same then, so all of it is arithmetic: other kernels, number formats, or weights that did not
    reach the sampler. `low` and `high` are the bounds of GRPO's clip.
    """

    low: float
    high: float
    tokens: int = 0
    total: float = 0.0
    most: float = 0.0
    beyond: float = 0.0

    def add(self, log_probs: Tensor, recorded: Tensor) -> None:
        """Count tokens: log-probabilities of the trainer and of the sampler, each [T]."""
        moved = log_probs.detach() - recorded
        ratio = moved.exp()
        self.tokens += moved.numel()
        self.total += moved.abs().sum().item()
        self.most = max(self.most, moved.abs().max().item())
        self.beyond += ((ratio < 1 - self.low) | (ratio > 1 + self.high)).sum().item()

    def metrics(self) -> dict[str, float]:
        """The mean and the largest |difference|, in nats, and the share of tokens that are beyond the clip."""
        return {
            "mismatch": self.total / self.tokens,
            "mismatch_max": self.most,
            "mismatch_clipped": self.beyond / self.tokens,
        }
