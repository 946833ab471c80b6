"""Who is the user, and who is the agent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tau2_exp.config.setting import setting


class UserKind(str, Enum):
    """The user simulators."""

    scripted = "scripted"
    litellm = "litellm"
    custom = "custom"


class PolicyKind(str, Enum):
    """The policies; see `policy=CHOICE`."""

    model = "model"
    sglang = "sglang"
    litellm = "litellm"
    oracle = "oracle"
    custom = "custom"


class OracleKind(str, Enum):
    """How an oracle finds its actions."""

    workflow = "workflow"
    gold = "gold"


@dataclass
class UserConfig:
    """Who the agent talks to."""

    kind: UserKind = setting(
        UserKind.scripted,
        "which user simulator: scripted (rules, no model), litellm (a model behind an API), custom (yours)",
    )
    model: str | None = setting(
        None, "litellm: name of the model, such as gpt-4.1-mini or openai/NAME; null only without litellm"
    )
    api_base: str | None = setting(None, "litellm: URL of the server; null: the provider's own")
    api_key_env: str | None = setting(
        None,
        "name of the environment variable with the API key, never the key; null: no key, or litellm's own variable",
    )
    serve: str | None = setting(
        None,
        "slime: folder or Hugging Face name of a model that is served on hardware.user_gpus for this run; null: none",
        path=True,
    )
    temperature: float = setting(0.0, "sampling temperature of the user's model", at_least=0)
    max_tokens: int = setting(1024, "most tokens that the user's model may write in one turn", above=0)
    seed: bool = setting(True, "whether each request carries the episode's seed; false: for servers that take none")
    timeout: float = setting(120.0, "seconds until a request counts as failed", above=0)
    retries: int = setting(4, "further tries of a request that failed", at_least=0)
    cache: bool | None = setting(
        None,
        "stage=eval: whether replies are kept, so that an equal request is not paid twice; "
        "null: yes for a hosted model, no for a server of one's own (api_base)",
    )
    function: str | None = setting(
        None, "custom: module:name of what makes yours: (task, world, config, seed) -> User; null only without custom"
    )
    options: dict[str, Any] = setting(dict, "what function reads: +user.options.NAME=VALUE")


@dataclass
class PolicyConfig:
    """Who is the agent; anything but the model itself is for stage=eval, and a policy of your own for demos too."""

    kind: PolicyKind = setting(PolicyKind.model, "which policy: model, sglang, litellm, oracle, custom (yours)")
    oracle: OracleKind = setting(
        OracleKind.workflow,
        "demos and policy=oracle: workflow (telecom; reads only the conversation), gold (any domain; takes the "
        "reference actions)",
    )
    url: str | None = setting(
        None, "sglang: address of the server, http://HOST:PORT; null with engine=slime: one is started for the run"
    )
    model: str | None = setting(
        None, "litellm: name of the model, such as gpt-4.1 or openai/NAME; null only without litellm"
    )
    api_base: str | None = setting(None, "litellm: URL of the server; null: the provider's own")
    api_key_env: str | None = setting(
        None,
        "name of the environment variable with the API key, never the key; null: no key, or litellm's own variable",
    )
    seed: bool = setting(True, "whether each request carries the episode's seed; false: for servers that take none")
    timeout: float = setting(300.0, "seconds until a request counts as failed", above=0)
    retries: int = setting(4, "further tries of a request that failed", at_least=0)
    cache: bool | None = setting(
        None,
        "whether replies are kept, so that an equal request is not paid twice; "
        "null: yes for a hosted model, no for a server of one's own (api_base)",
    )
    function: str | None = setting(
        None, "custom: module:name of what makes yours: (config, sampling) -> Policy; null only without custom"
    )
    options: dict[str, Any] = setting(dict, "what function reads: +policy.options.NAME=VALUE")
