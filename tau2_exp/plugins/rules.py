"""Checks of what a user brings: it exists, meets its protocol, and is used by the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from tau2_exp.config import (
    Config,
    CurriculumKind,
    CustomConfig,
    EngineName,
    LoggerKind,
    PolicyKind,
    RewardKind,
    UserKind,
)
from tau2_exp.plugins.doors import named
from tau2_exp.plugins.loading import load


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong. Raises ConfigError for a path that names nothing that fits."""
    for group, section, custom in (
        ("reward", config.reward, RewardKind.custom),
        ("curriculum", config.curriculum, CurriculumKind.custom),
        ("user", config.user, UserKind.custom),
        ("policy", config.policy, PolicyKind.custom),
        ("logger", config.logger, LoggerKind.custom),
    ):
        if section.kind is custom and section.function is None:
            yield f"{group}.function=null: {group}=custom needs your own; give {group}.function=my_pkg.module:name"
        if section.function is not None and section.kind is not custom:
            yield f"{group}.function={section.function}: only {group}=custom calls it; use that, or remove this"
    if isinstance(config.stage, CustomConfig) and config.engine.name is EngineName.slime:
        yield "engine=slime: has no part in a stage of your own; use engine=torch"
    for key, path in named(config).items():
        found = load(key, path)
        forks = not isinstance(found, type) or hasattr(found, "fork")
        if key == "user.function" and config.reward.kind is RewardKind.branch and not forks:
            yield (
                f"{key}={path}: has no method fork(world, seed), and reward=branch plays on from the middle of "
                "episodes; give it one (docs/extending.md), or use another reward"
            )
