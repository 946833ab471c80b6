"""Where metrics are copied to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class LoggerKind(str, Enum):
    none = "none"
    wandb = "wandb"


class ArtifactKind(str, Enum):
    none = "none"
    reference = "reference"  # to where the checkpoint lies; nothing is copied
    upload = "upload"


@dataclass
class LoggerConfig:
    kind: LoggerKind = LoggerKind.none
    project: str = "tau2_exp"
    entity: str | None = None
    group: str | None = None
    api_key_env: str = "WANDB_API_KEY"
    episodes: int = 32  # of each trajectories file, in a table
    artifacts: ArtifactKind = ArtifactKind.reference
