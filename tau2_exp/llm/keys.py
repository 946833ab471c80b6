"""The key of a model, looked up before any episode starts."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tau2_exp.config import ConfigError, PolicyConfig, UserConfig
from tau2_exp.llm.client import missing_keys
from tau2_exp.llm.secrets import secret


def find_key(config: UserConfig | PolicyConfig, group: str) -> str | None:
    """The key that `api_key_env` names. None where a local server needs none, or litellm finds the model's own.

    Raises ConfigError where a hosted model has no key.
    """
    local = config.api_base is not None and is_local(config.api_base)
    if config.api_key_env:
        try:
            return secret(config.api_key_env)
        except ConfigError as error:
            if local:
                return None
            raise ConfigError(f"{group}.api_key_env: {error}; a local server needs {group}.api_base=URL") from None
    if config.api_base is None and config.model and (missing := missing_keys(config.model)):
        raise ConfigError(
            f"{group}.api_key_env=null: {config.model} needs a key, and {' or '.join(missing)} is not set; "
            "set it, or fill in .env (see .env.template)"
        )
    return None


def is_local(url: str) -> bool:
    """Whether an address is on this machine or its own network: loopback, private, or a name without a domain."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
