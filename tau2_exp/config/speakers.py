"""Who is the user, and who is the agent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class UserKind(str, Enum):
    scripted = "scripted"
    litellm = "litellm"


class PolicyKind(str, Enum):
    model = "model"
    sglang = "sglang"
    litellm = "litellm"
    oracle = "oracle"


class OracleKind(str, Enum):
    workflow = "workflow"  # telecom: reads only the conversation
    gold = "gold"  # any domain: follows the reference actions


@dataclass
class UserConfig:
    kind: UserKind = UserKind.scripted
    model: str | None = None  # litellm's name of the model
    api_base: str | None = None
    api_key_env: str | None = None  # the environment variable's name, never the key
    serve: str | None = None  # slime: a model folder or hub name, served on hardware.user_gpus for this run
    temperature: float = 0.0
    max_tokens: int = 1024
    timeout: float = 120.0  # seconds a request
    retries: int = 4
    cache: bool | None = None  # stage=eval: keep replies by what was asked; null: a hosted model's, not a server's


@dataclass
class PolicyConfig:
    kind: PolicyKind = PolicyKind.model
    oracle: OracleKind = OracleKind.workflow
    url: str | None = None  # SGLang's address; null with engine=slime: a server is started for the run
    model: str | None = None
    api_base: str | None = None
    api_key_env: str | None = None
    timeout: float = 300.0
    retries: int = 4
    cache: bool | None = None  # as user.cache
