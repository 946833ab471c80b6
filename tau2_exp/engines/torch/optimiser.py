"""AdamW over float32 master weights, with schedule and clipping; gradients are summed in float32 too."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tau2_exp.config import Schedule, TrainingConfig

BAD_STEPS = 5


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """The rate of optimiser step `step` (from 0) of `total`: a linear warm-up, then constant, linear or cosine to 0."""
    warm = math.ceil(round(config.warmup * total, 9))  # 0.07 · 100 is a little above 7
    if step < warm:
        return config.lr * (step + 1) / warm
    left = 1.0 - (step - warm) / max(1, total - warm)
    if config.schedule is Schedule.linear:
        return config.lr * max(0.0, left)
    if config.schedule is Schedule.cosine:
        return config.lr * 0.5 * (1.0 - math.cos(math.pi * max(0.0, left)))
    return config.lr


class Optimiser:
    """AdamW (Loshchilov & Hutter, 2019) on the parameters that have a gradient, with decay on matrices only.

    A model in bfloat16 gets float32 copies to be updated: a small step would round away in bfloat16. Each
    micro-batch's gradient is moved onto the copies as soon as it is complete.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig):
        self._config = config
        self._bad = 0  # updates skipped in a row
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            self._pairs.append((parameter, self._master(parameter)))
        masters = [master for _, master in self._pairs]
        groups = [
            {"params": [m for m in masters if m.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [m for m in masters if m.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = (config.beta1, config.beta2)
        self._adam = torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.epsilon, fused=True)

    def _master(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype == torch.float32:
            return parameter
        master = parameter.detach().float().requires_grad_()

        def collect(done: Tensor) -> None:
            grad, done.grad = done.grad, None
            if grad is not None:
                master.grad = grad.float() if master.grad is None else master.grad.add_(grad)

        parameter.register_post_accumulate_grad_hook(collect)
        return master

    def step(self, lr: float) -> float:
        """Clip, update, clear. Returns the gradient's norm before clipping.

        Where it is not finite, the update is skipped; raises RuntimeError where that happens BAD_STEPS times in a row.
        """
        masters = [master for _, master in self._pairs]
        limit = self._config.grad_clip if self._config.grad_clip > 0 else math.inf
        norm = float(nn.utils.clip_grad_norm_(masters, limit))
        self._bad = 0 if math.isfinite(norm) else self._bad + 1
        if self._bad == BAD_STEPS:
            raise RuntimeError(f"the gradient was not finite in {BAD_STEPS} updates in a row; lower lr, or use float32")
        if not self._bad:
            for group in self._adam.param_groups:
                group["lr"] = lr
            self._adam.step()
            self._publish()
        self._adam.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def _publish(self) -> None:
        """Copy the masters to the model, and mark its weights as changed, which the fused update does not do."""
        for parameter, master in self._pairs:
            if parameter is not master:
                parameter.copy_(master)
            else:
                torch.autograd.graph.increment_version(parameter)

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state, and the float32 master of each parameter (None where the parameter itself is float32)."""
        masters = [None if parameter is master else master.detach() for parameter, master in self._pairs]
        return {"adam": self._adam.state_dict(), "masters": masters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, and copy the masters to the model."""
        self._adam.load_state_dict(state["adam"])
        with torch.no_grad():
            for (_, master), saved in zip(self._pairs, state["masters"], strict=True):
                if saved is not None:
                    master.copy_(saved)
        self._publish()
