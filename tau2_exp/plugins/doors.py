"""The settings that name something of the user's, each with the protocol that it has to meet."""

from __future__ import annotations

from tau2_exp.config import Config

DOORS = {  # the protocols of `interfaces`, by name: a command that names nothing of the user's does not import them
    "domain.provider": "MakeDomain",
    "user.function": "MakeUser",
    "policy.function": "MakePolicy",
    "reward.function": "RewardFunction",
    "reward.credit": "CreditFunction",
    "curriculum.function": "MakeCurriculum",
    "stage.function": "StageFunction",
    "logger.function": "MakeLogger",
}


def protocol_of(key: str) -> type:
    """What the setting `key` wants what it names to be."""
    from tau2_exp import interfaces

    protocol: type = getattr(interfaces, DOORS[key])
    return protocol


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
