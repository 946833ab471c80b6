"""Checks of the settings of a user simulator."""

from __future__ import annotations

from collections.abc import Iterator

from tau2_exp.config import Config, EngineName, UserKind


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    user = config.user
    if user.kind is UserKind.litellm and not user.model:
        yield "user.model=null: user=litellm needs the name of a model; user.model=NAME"
    if user.serve and config.engine.name is EngineName.torch:
        yield f"user.serve={user.serve}: needs GPUs of its own; use engine=slime, or give user.api_base=URL"
