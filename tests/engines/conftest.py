from __future__ import annotations

import random

import pytest
import torch

from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.types import Row

SHAPE = ModelShape(vocab_size=97, layers=2, width=32, heads=4, kv_heads=2, head_dim=16, ffn=48)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def model() -> CausalLM:
    return lively(new_model(SHAPE, seed=1))


def lively(model: CausalLM, scale: float = 6.0) -> CausalLM:
    """Larger weights than at the start, so that distributions are far from uniform and norms from one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
            else:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens(count: int, seed: int = 0, vocab_size: int = SHAPE.vocab_size) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(vocab_size) for _ in range(count)]


def row(length: int, seed: int) -> Row:
    """A row of random tokens of which about half are trained, with made-up log-probabilities and advantages."""
    draw = random.Random(seed)
    ids = tokens(length, seed)
    trained = [i > 0 and draw.random() < 0.5 for i in range(length)]
    trained[-1] = True
    log_probs = [draw.uniform(-6, -1) if flag else 0.0 for flag in trained]
    advantages = [draw.uniform(-2, 2) if flag else 0.0 for flag in trained]
    return Row(tuple(ids), tuple(trained), tuple(log_probs), tuple(advantages))
