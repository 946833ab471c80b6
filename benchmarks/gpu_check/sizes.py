"""How large the things are that the check computes: Qwen3's sizes, and tiny ones to prove the check itself."""

from __future__ import annotations

from dataclasses import dataclass

from engine import SHAPES

from tau2_exp.engines.torch.shape import ModelShape


@dataclass(frozen=True)
class Sizes:
    """Lengths are in tokens."""

    shapes: dict[str, ModelShape]  # "0.6B" and "4B"
    sessions: dict[str, int]  # that decode at once, of each shape
    matrix: int  # side of the square matrices whose product is timed
    copy_bytes: int
    rows: int  # of an SFT step
    row: int
    groups: int  # of a GRPO step
    samples: int  # of a group
    prefix: int  # that the rows of a group share
    branch: int  # of each row's own
    batch_tokens: int
    context: int  # of a decoding session
    heard: int  # between two turns of a session
    decoded: int  # tokens of each session that are timed
    budget: float  # seconds for all repeats of one short measurement


FULL = Sizes(
    shapes={"0.6B": SHAPES["qwen3_0_6b"], "4B": SHAPES["qwen3_4b"]},
    sessions={"0.6B": 64, "4B": 16},
    matrix=8192,
    copy_bytes=4 << 30,
    rows=2,
    row=8192,
    groups=4,
    samples=8,
    prefix=7168,
    branch=1024,
    batch_tokens=16384,
    context=8192,
    heard=128,
    decoded=64,
    budget=0.15,
)

TINY = Sizes(
    shapes={"0.6B": SHAPES["tiny"], "4B": ModelShape(1900, 3, 160, 8, 2, 32, 512)},
    sessions={"0.6B": 6, "4B": 3},
    matrix=256,
    copy_bytes=4 << 20,
    rows=2,
    row=256,
    groups=2,
    samples=3,
    prefix=128,
    branch=96,
    batch_tokens=512,
    context=256,
    heard=16,
    decoded=8,
    budget=0.005,
)
