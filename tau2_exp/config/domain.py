"""Which tasks, and the limits of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from tau2_exp.config.setting import setting


class Document(str, Enum):
    """How much of a domain's policy document the system prompt holds."""

    full = "full"
    compressed = "compressed"
    none = "none"


class Provider(str, Enum):
    """The packages that bring τ²-bench's tasks."""

    auto = "auto"
    sierra = "sierra"
    inspect = "inspect"


TASK_REVISION = "tau2-bench@337326e"  # of every task, whichever provider brings it


@dataclass
class DomainConfig:
    """The tasks, and what ends an episode."""

    names: list[str] = setting(
        MISSING, "domains that the tasks are from: telecom, airline, retail, mock; [] with your own"
    )
    train_split: str = setting("train", "split of the tasks that the agent is trained on; only train is allowed")
    eval_splits: list[str] = setting(
        lambda: ["train", "test"],
        "splits that the agent is evaluated on: train, test, base; telecom also has small, full, development",
    )
    limit: int | None = setting(
        None, "number of tasks to take of each split and domain, evenly spaced; null: all of them", above=0
    )
    max_steps: int = setting(
        100, "steps after which an episode ends; each message and tool call of either side is one", above=0
    )
    max_errors: int = setting(10, "tool errors after which an episode ends", above=0)
    document: Document = setting(
        Document.full, "policy document in the system prompt: full, compressed (a summary of it), none"
    )
    provider: str = setting(
        Provider.auto.value,
        "package that brings the tasks: sierra (τ²-bench's own), inspect (inspect-evals), auto (sierra if installed); "
        "or module:name of a domain of your own",
    )
