"""The schema: every setting, its type and its one default. YAML under conf/ only chooses among them."""

from tau2_exp.config.config import Config, from_data, to_data
from tau2_exp.config.curriculum import CurriculumConfig, CurriculumKind
from tau2_exp.config.domain import TASK_REVISION, Document, DomainConfig, Provider
from tau2_exp.config.engine import Backbone, EngineConfig, EngineName, Sampler, SlimeConfig
from tau2_exp.config.errors import ConfigError, OutOfMemory
from tau2_exp.config.hardware import Dtype, HardwareConfig, LauncherKind, SlurmConfig
from tau2_exp.config.logger import ArtifactKind, LoggerConfig, LoggerKind
from tau2_exp.config.model import RANDOM_BASE, ModelConfig, ProtocolName, Thinking
from tau2_exp.config.reward import READ_BY, Anchor, Baseline, PartWeights, RewardConfig, RewardKind
from tau2_exp.config.rollout import RolloutConfig
from tau2_exp.config.speakers import OracleKind, PolicyConfig, PolicyKind, UserConfig, UserKind
from tau2_exp.config.stage import (
    CHAIN,
    STAGES,
    BranchConfig,
    CustomConfig,
    DemosConfig,
    EvalConfig,
    GrpoConfig,
    LearningCurveConfig,
    PipelineConfig,
    PointChoice,
    RftConfig,
    Schedule,
    SftConfig,
    StageConfig,
    TrainingConfig,
    stages_of,
)

__all__ = [
    "CHAIN",
    "RANDOM_BASE",
    "READ_BY",
    "STAGES",
    "TASK_REVISION",
    "Anchor",
    "ArtifactKind",
    "Backbone",
    "Baseline",
    "BranchConfig",
    "Config",
    "ConfigError",
    "CurriculumConfig",
    "CurriculumKind",
    "CustomConfig",
    "DemosConfig",
    "Document",
    "DomainConfig",
    "Dtype",
    "EngineConfig",
    "EngineName",
    "EvalConfig",
    "GrpoConfig",
    "HardwareConfig",
    "LauncherKind",
    "LearningCurveConfig",
    "LoggerConfig",
    "LoggerKind",
    "ModelConfig",
    "OracleKind",
    "OutOfMemory",
    "PartWeights",
    "PipelineConfig",
    "PointChoice",
    "PolicyConfig",
    "PolicyKind",
    "ProtocolName",
    "Provider",
    "RewardConfig",
    "RewardKind",
    "RftConfig",
    "RolloutConfig",
    "Sampler",
    "Schedule",
    "SftConfig",
    "SlimeConfig",
    "SlurmConfig",
    "StageConfig",
    "Thinking",
    "TrainingConfig",
    "UserConfig",
    "UserKind",
    "from_data",
    "stages_of",
    "to_data",
]
