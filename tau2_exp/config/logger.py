"""Where metrics are copied to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tau2_exp.config.setting import setting


class LoggerKind(str, Enum):
    """Where metrics are copied to."""

    none = "none"
    wandb = "wandb"
    custom = "custom"


class ArtifactKind(str, Enum):
    """What W&B keeps of a checkpoint."""

    none = "none"
    reference = "reference"
    upload = "upload"


@dataclass
class LoggerConfig:
    """A copy of a run's metrics elsewhere; the run's folder always has them all."""

    kind: LoggerKind = setting(LoggerKind.none, "where the copy goes: none, wandb (Weights & Biases), custom (yours)")
    project: str = setting("tau2_exp", "W&B's project")
    entity: str | None = setting(None, "W&B's user or team; null: the default of the API key")
    group: str | None = setting(None, "W&B's group; null: the name of the run or sweep")
    api_key_env: str = setting("WANDB_API_KEY", "name of the environment variable with the API key, never the key")
    episodes: int = setting(32, "episodes of each trajectories file that are shown in a table", at_least=0)
    artifacts: ArtifactKind = setting(
        ArtifactKind.reference,
        "what is kept of a checkpoint: reference (its path, nothing is copied), upload (its files), none",
    )
    function: str | None = setting(
        None, "custom: module:name of what makes yours: (config, folder) -> RunLogger; null only without custom"
    )
    options: dict[str, Any] = setting(dict, "what function reads: +logger.options.NAME=VALUE")
