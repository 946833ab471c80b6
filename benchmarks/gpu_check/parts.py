"""The parts of the check, the most telling first, each a process of its own with a share of the minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    name: str  # of its module, whose function `run(settings, report)` does it
    title: str
    share: float  # of the minutes


PARTS = (
    Part("card", "The card and its two ceilings", 0.05),
    Part("attention", "Attention: which backend each call site gets, and the best", 0.14),
    Part("defaults", "What hardware=gpu_1 starts with at 0.6B", 0.06),
    Part("correctness", "Correctness on this device", 0.19),
    Part("steps", "Training steps, random weights", 0.16),
    Part("lora", "LoRA steps at 4B, random weights", 0.09),
    Part("decoding", "Decoding, random weights", 0.11),
    Part("families", "Families that transformers computes, random weights", 0.08),
    Part("smollm", "SmolLM2's pipeline on the 74 train tasks of telecom", 0.12),
)
NAMES = tuple(part.name for part in PARTS)
