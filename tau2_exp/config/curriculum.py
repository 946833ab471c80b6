"""Which task comes next, and how much it counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CurriculumKind(str, Enum):
    none = "none"
    reference = "reference"
    adaptive = "adaptive"


@dataclass
class CurriculumConfig:
    kind: CurriculumKind = CurriculumKind.none
    attempts: int = 5  # before a task's solved fraction counts
    easy_above: float = 0.75
    easy_weight: float = 0.1
    hard_below: float = 0.25
    hard_weight: float = 0.5
    memory: float = 0.5  # adaptive: the share of a task's solved fraction that an attempt replaces
