"""Which task comes next, and how much it counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tau2_exp.config.setting import setting


class CurriculumKind(str, Enum):
    """The curricula; see `curriculum=CHOICE`."""

    none = "none"
    reference = "reference"
    adaptive = "adaptive"
    custom = "custom"


@dataclass
class CurriculumConfig:
    """The order of the tasks in GRPO, and the weight of their advantages."""

    kind: CurriculumKind = setting(CurriculumKind.none, "which curriculum: none, reference, adaptive, custom (yours)")
    attempts: int = setting(5, "reference: episodes of a task before its weight may change", above=0)
    easy_above: float = setting(
        0.75, "reference: solved fraction above which a task counts as easy", at_least=0, at_most=1
    )
    easy_weight: float = setting(0.1, "reference: factor on the advantages of an easy task", at_least=0, at_most=1)
    hard_below: float = setting(
        0.25, "reference: solved fraction below which a task counts as hard", at_least=0, at_most=1
    )
    hard_weight: float = setting(0.5, "reference: factor on the advantages of a hard task", at_least=0, at_most=1)
    memory: float = setting(
        0.5, "adaptive: share of a task's solved fraction that one new episode replaces", above=0, at_most=1
    )
    function: str | None = setting(
        None, "custom: module:name of what makes yours: (keys, config, seed) -> Curriculum; null only without custom"
    )
    options: dict[str, Any] = setting(dict, "what function reads: +curriculum.options.NAME=VALUE")
