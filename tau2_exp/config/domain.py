"""Which tasks, and the limits of an episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class Document(str, Enum):
    full = "full"
    compressed = "compressed"
    none = "none"


class Provider(str, Enum):
    auto = "auto"
    sierra = "sierra"
    inspect = "inspect"


TASK_REVISION = "tau2-bench@337326e"  # of every task, whichever provider brings it


@dataclass
class DomainConfig:
    names: list[str] = MISSING  # telecom, airline, retail, mock
    train_split: str = "train"
    eval_splits: list[str] = field(default_factory=lambda: ["train", "test"])  # also: development (telecom)
    limit: int | None = None  # tasks of each split and domain, evenly spaced
    max_steps: int = 100  # as τ²-bench counts them
    max_errors: int = 10
    document: Document = Document.full
    provider: Provider = Provider.auto
