"""The settings that name something of the user's, each with the protocol that it has to meet."""

from __future__ import annotations

from tau2_exp import interfaces
from tau2_exp.config import Config

DOORS: dict[str, type] = {
    "domain.provider": interfaces.MakeDomain,
    "user.function": interfaces.MakeUser,
    "policy.function": interfaces.MakePolicy,
    "reward.function": interfaces.RewardFunction,
    "reward.credit": interfaces.CreditFunction,
    "curriculum.function": interfaces.MakeCurriculum,
    "stage.function": interfaces.StageFunction,
    "logger.function": interfaces.MakeLogger,
}


def is_path(value: str) -> bool:
    """Whether a setting that takes a word or a dotted path has a path (`my_pkg.bank:Bank`)."""
    return ":" in value


def named(config: Config) -> dict[str, str]:
    """The dotted paths of a configuration, by the setting that names them."""
    found: dict[str, str] = {}
    for key in DOORS:
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name, None)
        if value and (name != "provider" or is_path(value)):
            found[key] = value
    return found
