"""The torch engine's tests, on a CPU in float32, or wherever `--device cuda --dtype bfloat16` says."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tau2_exp.config import Dtype, HardwareConfig
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.types import Row

SHAPE = ModelShape(vocab_size=97, layers=2, width=32, heads=4, kv_heads=2, head_dim=16, ffn=48)


BF16 = 0.05  # error allowed in bfloat16, whose own is 2⁻⁸ an operation
CARD = 10  # times the error allowed in float32, whose sums a GPU takes in another order


@dataclass(frozen=True)
class Place:
    """Where the tests compute and in which numbers, and what of exactness can be asked for there."""

    device: torch.device
    dtype: torch.dtype

    @property
    def hardware(self) -> HardwareConfig:
        dtype = Dtype.float32 if self.dtype is torch.float32 else Dtype.bfloat16
        return HardwareConfig(name="test", device=str(self.device), dtype=dtype)

    def put(self, model: CausalLM) -> CausalLM:
        return model.to(self.device, self.dtype)

    def tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def tolerance(self, exact: float) -> float:
        """The error allowed where a CPU in float32 is allowed `exact`."""
        if self.dtype is torch.bfloat16:
            return BF16
        return exact if self.device.type == "cpu" else CARD * exact

    def alike(self, found: Sequence[Tensor], wanted: Sequence[Tensor], exact: float, least: float = 0.0) -> bool:
        """Whether tensors agree: in float32 each number, relative to its tensor's largest (or `least`).

        In bfloat16 the whole, in norm: a single small number may be wrong by its own size.
        """
        if self.dtype is torch.bfloat16:
            a, b = (torch.cat([x.float().flatten() for x in tensors]) for tensors in (found, wanted))
            return bool((a - b).norm() <= BF16 * b.norm())
        limit = self.tolerance(exact)
        return all(
            (a - b).abs().max() <= limit * max(least, float(b.abs().max())) for a, b in zip(found, wanted, strict=True)
        )

    def repeated(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
        """Whether a computation was repeated: bit for bit on a CPU; a GPU adds up gradients in any order."""
        if self.device.type == "cpu":
            return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        return self.alike(found, wanted, 1e-3)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the torch engine's tests compute: cpu or cuda")
    parser.addoption("--dtype", default="float32", choices=["float32", "bfloat16"], help="in which numbers")


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config) -> Place:
    device = torch.device(pytestconfig.getoption("--device", "cpu"))  # unknown where pytest began in another folder
    return Place(device, getattr(torch, pytestconfig.getoption("--dtype", "float32")))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def model(place: Place) -> CausalLM:
    return place.put(lively(new_model(SHAPE, seed=1)))


def twin(model: CausalLM) -> CausalLM:
    """The same weights in float32, for what is to be computed the slow and exact way."""
    return copy.deepcopy(model).float()


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
