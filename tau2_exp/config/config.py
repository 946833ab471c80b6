"""The whole configuration of a run, and the same as JSON data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from tau2_exp.codec import decode
from tau2_exp.config.curriculum import CurriculumConfig
from tau2_exp.config.domain import DomainConfig
from tau2_exp.config.engine import EngineConfig, EngineName, Sampler
from tau2_exp.config.hardware import HardwareConfig
from tau2_exp.config.logger import LoggerConfig
from tau2_exp.config.model import ModelConfig
from tau2_exp.config.reward import RewardConfig
from tau2_exp.config.rollout import RolloutConfig
from tau2_exp.config.setting import setting
from tau2_exp.config.speakers import PolicyConfig, PolicyKind, UserConfig
from tau2_exp.config.stage import STAGES, StageConfig


@dataclass
class Config:
    """Everything that a run is made of."""

    model: ModelConfig = setting(MISSING, "which model is trained or evaluated")
    domain: DomainConfig = setting(MISSING, "which tasks of τ²-bench, and the limits of an episode")
    stage: StageConfig = setting(MISSING, "what to do; pipeline is all of it")
    reward: RewardConfig = setting(MISSING, "what an episode and a turn earn in GRPO")
    curriculum: CurriculumConfig = setting(MISSING, "which task comes next in GRPO, and how much it counts")
    hardware: HardwareConfig = setting(MISSING, "the devices, and who starts the runs: this machine or SLURM")
    engine: EngineConfig = setting(MISSING, "what trains and generates")
    user: UserConfig = setting(MISSING, "who the agent talks to: the user simulator")
    policy: PolicyConfig = setting(MISSING, "who is the agent; other than the model itself in stage=eval only")
    logger: LoggerConfig = setting(MISSING, "a copy of the run's metrics elsewhere")
    rollout: RolloutConfig = setting(RolloutConfig, "how episodes are played")
    plugins: list[str] = setting(
        list, "packages of yours that bring choices, imported before the settings are read: +plugins=[my_lab]"
    )
    seed: int = setting(0, "seed of everything that is drawn at random", at_least=0, below=2**32)
    parent: str | None = setting(
        None,
        "run folder that this stage depends on; model: begin with model.path itself; "
        "null: found by its content, or created first",
        path=True,
    )
    resume: str | None = setting(None, "folder of a run or sweep to continue; null: a new one", path=True)
    dry_run: Any = setting(
        False, "print what would run and start nothing: true (a shell script), json (data), false (run it)"
    )
    debug: bool = setting(False, "do the stages in this process, so that breakpoint() works")
    wait: bool = setting(False, "SLURM: whether the command stays, with a live table, until all jobs are done")
    outputs: str = setting("outputs", "folder that run folders are created in", path=True)
    name: str | None = setting(None, "name of the run's folder; null: made from the time and the stage")

    @property
    def serves_policy(self) -> bool:
        """Whether the policy is a model that is served by SGLang for the run, rather than sampled in its process."""
        kind = self.policy.kind
        served = kind is PolicyKind.model or (kind is PolicyKind.sglang and self.policy.url is None)
        return served and (self.engine.name is EngineName.slime or self.engine.sampler is Sampler.sglang)


_RETIRED = ("progress_over_deviation",)  # settings of a reward that older runs have, and nothing reads now


def to_data(config: Config) -> dict[str, Any]:
    """The whole configuration as JSON data, defaults included."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_data(data: dict[str, Any]) -> Config:
    """The configuration that `to_data` wrote. Raises ValueError naming a key that is unknown or of a wrong type."""
    stage = data["stage"]
    if "reward" in data:
        data = {**data, "reward": {key: value for key, value in data["reward"].items() if key not in _RETIRED}}
    if stage["name"] not in STAGES:
        raise ValueError(f"Config.stage.name: {stage['name']!r} is not one of {', '.join(STAGES)}")
    config = decode(Config, {**data, "stage": {"name": stage["name"]}})
    return dataclasses.replace(config, stage=decode(STAGES[stage["name"]], stage))
