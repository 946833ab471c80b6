"""Checks of the settings of language models behind an API: no secrets in URLs, and budgets that count something."""

from __future__ import annotations

from collections.abc import Iterator

from tau2_exp.config import Config, EvalConfig, PolicyKind, UserKind, stages_of
from tau2_exp.llm.secrets import holds_secret


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    user, policy = config.user, config.policy
    for key, url in (
        ("user.api_base", user.api_base),
        ("policy.api_base", policy.api_base),
        ("policy.url", policy.url),
    ):
        if url and holds_secret(url):
            name = f"{key.partition('.')[0]}.api_key_env=…"
            yield f"{key}: holds a password or a key; put it into a variable and name that: {name}"
    asked = user.kind is UserKind.litellm or policy.kind is PolicyKind.litellm
    for stage, prefix in stages_of(config.stage):
        bounded = isinstance(stage, EvalConfig) and (stage.budget_dollars, stage.budget_tokens) != (None, None)
        if bounded and not asked:
            yield f"{prefix}budget_…: only what litellm is asked is counted; use user=litellm or policy=litellm"
