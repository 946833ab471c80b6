"""The policy of a stage: a model of ours, a server, an API, or an oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tau2_exp.config import ConfigError, PolicyKind
from tau2_exp.interfaces import Policy
from tau2_exp.llm.secrets import secret
from tau2_exp.plugins import make
from tau2_exp.policies.oracle import OraclePolicy
from tau2_exp.stages.context import StageContext
from tau2_exp.types import Sampling

PolicyFactory = Callable[[Sampling], Policy]  # one model, sampled in several ways


def make_policy_factory(context: StageContext) -> PolicyFactory:
    """The policy that the configuration names. A model of ours is served, where the engine is slime."""
    config = context.config.policy
    if config.function is not None:
        return partial(make, "policy.function", config.function, config)
    if config.kind is PolicyKind.oracle:
        return lambda sampling: OraclePolicy(config.oracle)
    if config.kind is PolicyKind.litellm:
        from tau2_exp.policies.litellm import LitellmPolicy

        return partial(LitellmPolicy, config, account=context.account)
    from tau2_exp.engines.torch.tokenizer import load_tokenizer

    start = starting_point(context)
    tokenizer = context.adopt(load_tokenizer(start), start)
    served = context.config.serves_policy
    if served or config.kind is PolicyKind.sglang:
        from tau2_exp.policies.sglang import SglangGenerator

        token = secret(config.api_key_env) if config.api_key_env else None
        if served:
            server = context.run.server("policy")
            config, token = dataclasses.replace(config, url=server.url), server.token
        return partial(context.token_policy, SglangGenerator(config, token), tokenizer)
    from tau2_exp.engines.torch.backbone import check_context
    from tau2_exp.engines.torch.checkpoint import load_model
    from tau2_exp.engines.torch.generation import TorchGenerator

    model = load_model(start, context.config.hardware, context.config.engine.backbone)
    check_context(model, context.config.model.context)
    generator = TorchGenerator(model, context.engine, context.config.model.context)
    return partial(context.token_policy, generator, tokenizer)


def demonstrator(context: StageContext) -> Policy:
    """The policy that demonstrates the training tasks: a custom one where there is one, else an oracle."""
    config = context.config.policy
    if config.function is not None:
        return make("policy.function", config.function, config, Sampling(temperature=0.0))
    return OraclePolicy(config.oracle)


def starting_point(context: StageContext) -> Path | str:
    """The folder (or hub name) of a stage's first model: its parent's last checkpoint, else model.path."""
    parent, path = context.run.parent, context.config.model.path
    if parent is not None and context.has_parent_model:
        return parent.folder / parent.results["model"]
    if path:
        return path
    raise ConfigError(f"stage={context.config.stage.name}: has no model to start from; give parent=RUN or model.path=…")
