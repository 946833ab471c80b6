"""The whole configuration of a run, and the same as JSON data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from tau2_exp.codec import decode
from tau2_exp.config.curriculum import CurriculumConfig
from tau2_exp.config.domain import DomainConfig
from tau2_exp.config.engine import EngineConfig, EngineName
from tau2_exp.config.hardware import HardwareConfig
from tau2_exp.config.logger import LoggerConfig
from tau2_exp.config.model import ModelConfig
from tau2_exp.config.reward import RewardConfig
from tau2_exp.config.rollout import RolloutConfig
from tau2_exp.config.speakers import PolicyConfig, PolicyKind, UserConfig
from tau2_exp.config.stage import STAGES, StageConfig


@dataclass
class Config:
    model: ModelConfig = MISSING
    domain: DomainConfig = MISSING
    stage: StageConfig = MISSING
    reward: RewardConfig = MISSING
    curriculum: CurriculumConfig = MISSING
    hardware: HardwareConfig = MISSING
    engine: EngineConfig = MISSING
    user: UserConfig = MISSING
    policy: PolicyConfig = MISSING
    logger: LoggerConfig = MISSING
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    seed: int = 0
    parent: str | None = None  # the run folder this stage depends on; null: found by content, or made
    resume: str | None = None  # continue this run or sweep
    dry_run: Any = False  # print what would run: true (a shell script that one could paste) or json
    wait: bool = False  # slurm: stay until all is done, with a live table
    outputs: str = "outputs"  # where run folders go
    name: str | None = None  # of the run's folder; null: made from time and stage

    @property
    def serves_policy(self) -> bool:
        """Whether the policy is a model that is served by SGLang for the run, rather than computed in its process."""
        kind = self.policy.kind
        served = kind is PolicyKind.model or (kind is PolicyKind.sglang and self.policy.url is None)
        return self.engine.name is EngineName.slime and served


def to_data(config: Config) -> dict[str, Any]:
    """The whole configuration as JSON data, defaults included."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_data(data: dict[str, Any]) -> Config:
    """The configuration that `to_data` wrote. Raises ValueError naming a key that is unknown or of a wrong type."""
    stage = data["stage"]
    if stage["name"] not in STAGES:
        raise ValueError(f"Config.stage.name: {stage['name']!r} is not one of {', '.join(STAGES)}")
    config = decode(Config, {**data, "stage": {"name": stage["name"]}})
    return dataclasses.replace(config, stage=decode(STAGES[stage["name"]], stage))
