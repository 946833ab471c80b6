"""The one place that reads a secret: by the name of the environment variable that the configuration gives."""

from __future__ import annotations

import os

from tau2_exp.config import ConfigError


def secret(name: str) -> str:
    """The secret's value, never to be logged. Raises ConfigError where the variable is unset or empty."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"environment variable {name} is not set; set it, or fill in .env (see .env.template)")
    return value
