"""Rows in, one optimiser step out: SFT and GRPO over the micro-batches that the model makes of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tau2_exp.config import EngineConfig, GrpoConfig, TrainingConfig
from tau2_exp.engines.torch.backbone import Batch, LanguageModel
from tau2_exp.engines.torch.device import TRAINING, memory_for
from tau2_exp.engines.torch.losses import Objective, policy_loss
from tau2_exp.engines.torch.mismatch import Mismatch
from tau2_exp.engines.torch.optimiser import Optimiser, learning_rate
from tau2_exp.types import Row

Metrics = dict[str, float]


class Trainer:
    """Steps a model. A step's loss is the mean over *all its trained tokens*, however it is cut into micro-batches.

    That is DAPO's token-level mean (Yu et al., 2025): long answers count by their tokens, not each row alike.
    Where a GrpoConfig's `kl` is above 0 a `reference` (no gradient, same vocabulary) is needed; a model with an adapter
    is its own, the adapter switched off. An adapter's dropout is for supervised steps alone: the ratios of a GRPO step
    compare the policy with the one that sampled, which drops nothing.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        total_steps: int,
        engine: EngineConfig,
        reference: LanguageModel | None = None,
    ):
        self.model = model
        self.config = config
        self.total_steps = total_steps
        self.step = 0
        self._batch_tokens = engine.batch_tokens
        self._reference = reference
        self._optimiser = Optimiser(model, config)
        model.recompute = engine.recomputes(model.device.type)
        if isinstance(config, GrpoConfig) and config.kl > 0 and reference is None and model.adapter is None:
            raise ValueError(f"kl={config.kl} needs a reference model")

    @memory_for("training", TRAINING)
    def sft_step(self, rows: Sequence[Row]) -> Metrics:
        """One update by the mean of −advantage · log p(token) over trained tokens (advantage 1: cross-entropy).

        Returns loss, tokens, trained_tokens, grad_norm, lr, seconds, tokens_per_second: shared ones count for each row.
        Raises ValueError where no token is trained.
        """
        begun = time.perf_counter()
        trained = _count(rows)
        loss = 0.0
        adapter = self.model.adapter
        with adapter.dropout(self.step) if adapter else nullcontext():
            for batch in self.model.batches(rows, self._batch_tokens):
                log_probs, _ = self.model.statistics(batch)
                part = -(log_probs * batch.advantages).sum() / trained
                part.backward()
                loss += part.item()
        return {"loss": loss} | self._update(rows, trained, begun)

    @memory_for("training", TRAINING)
    def grpo_step(self, rows: Sequence[Row]) -> Metrics:
        """`updates_per_step` updates by the clipped objective (`losses.policy_loss`) on one step's rows.

        The rows' stored log-probabilities are the behaviour policy's throughout. With several updates each takes
        its share of the rows as they stand, so that a group's rows, and the prefix they share, stay together as far as
        they can; all use this step's rate.
        Returns the means over trained tokens of loss, kl, entropy, clip_fraction, ratio and drift, the first update's
        `Mismatch`, with tokens, trained_tokens, grad_norm (the last update's), lr, seconds and
        tokens_per_second.
        """
        config = self.config
        if not isinstance(config, GrpoConfig):
            raise ValueError(f"a GRPO step needs a GrpoConfig, not {type(config).__name__}")
        begun = time.perf_counter()
        trained = _count(rows)
        updates = min(config.updates_per_step, len(rows))
        shares = [rows[len(rows) * i // updates : len(rows) * (i + 1) // updates] for i in range(updates)]
        shares = [share for share in shares if any(any(row.trained) for row in share)]
        totals: Metrics = defaultdict(float)
        mismatch = Mismatch(config.clip_low, config.clip_high)
        for number, share in enumerate(shares):
            self._policy_gradient(share, config, totals, mismatch if number == 0 else None)
            if number < len(shares) - 1:
                self._optimiser.step(self._lr())
        means = {name: value / trained for name, value in totals.items()}
        return means | mismatch.metrics() | self._update(rows, trained, begun)

    def _policy_gradient(
        self, rows: Sequence[Row], config: GrpoConfig, totals: Metrics, mismatch: Mismatch | None
    ) -> None:
        """Accumulate one update's gradient; add its sums to `totals`, and its tokens to the mismatch."""
        trained = _count(rows)
        objective = Objective(config.clip_low, config.clip_high, config.kl, config.entropy, config.tis_clip)
        for batch in self.model.batches(rows, self._batch_tokens):
            reference = self._reference_log_probs(batch, config)
            log_probs, entropy = self.model.statistics(batch, config.temperature or 1.0, entropy=True)
            result = policy_loss(log_probs, batch.log_probs, batch.advantages, entropy, reference, objective)
            (result.loss / trained).backward()
            if mismatch:
                mismatch.add(log_probs, batch.log_probs)
            totals["loss"] += result.loss.item()
            totals["kl"] += result.kl.item()
            totals["entropy"] += result.entropy.item()
            totals["clip_fraction"] += result.clipped.item()
            totals["ratio"] += result.ratio.item()
            totals["drift"] += result.drift.item()

    def _reference_log_probs(self, batch: Batch, config: GrpoConfig) -> Tensor | None:
        if config.kl == 0:
            return None
        adapter = self.model.adapter
        with torch.no_grad(), adapter.off() if adapter else nullcontext():
            return (self._reference or self.model).statistics(batch, config.temperature or 1.0)[0]

    def _lr(self) -> float:
        return learning_rate(self.step, self.total_steps, self.config)

    def _update(self, rows: Sequence[Row], trained: int, begun: float) -> Metrics:
        lr = self._lr()
        norm = self._optimiser.step(lr)
        self.step += 1
        tokens = sum(len(row.ids) for row in rows)
        seconds = time.perf_counter() - begun
        return {
            "tokens": tokens,
            "trained_tokens": trained,
            "grad_norm": norm,
            "lr": lr,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state and the number of steps done; the weights are in the checkpoint."""
        return {"step": self.step, "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the weights are not part of it."""
        self.step = state["step"]
        self._optimiser.load_state_dict(state["optimiser"])


def _count(rows: Sequence[Row]) -> int:
    trained = sum(sum(row.trained) for row in rows)
    if not trained:
        raise ValueError("no token of these rows is to be trained")
    return trained
