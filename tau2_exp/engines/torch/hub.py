"""Files of a published model, from Hugging Face's hub or its cache on this machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tau2_exp.config import ConfigError

SECONDS = 10.0  # for a small file, when a command is planned
NO_ACCESS, MISSING = (401, 403), 404


class Unreachable(ConfigError):
    """The hub does not answer, and the file is not in its cache on this machine."""


def download(name: str, patterns: list[str]) -> Path:
    """The folder that holds the named model's files. Raises ConfigError in one line where it cannot be had."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(f"model.path={name}: no such folder, and a hub name reads owner/model")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, HFValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"model.path={name}: no such folder, and the hub did not give it ({reason})") from None


def fetch(name: str, file: str) -> str:
    """The text of one small file of a published model: from the cache on this machine, or from the hub.

    Asked once in a process, without the hub client's retries. Raises Unreachable, and ConfigError where the hub
    refuses it.
    """
    found = _ask(name, file)
    if isinstance(found, ConfigError):
        raise found
    return found


@cache
def _ask(name: str, file: str) -> str | ConfigError:
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import build_hf_headers

    try:
        cached = try_to_load_from_cache(name, file)
        if isinstance(cached, str):
            return Path(cached).read_text()
        if constants.HF_HUB_OFFLINE:
            raise Unreachable(f"model.path={name}: is not in the hub's cache here, and HF_HUB_OFFLINE is set")
        return _get(name, hf_hub_url(name, file), build_hf_headers())
    except HFValidationError as error:
        return ConfigError(f"model.path={name}: no such folder, and no hub name ({error})")
    except ConfigError as error:
        return error


def _get(name: str, url: str, headers: dict[str, str]) -> str:
    import httpx

    try:
        answer = httpx.get(url, headers=headers, follow_redirects=True, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise Unreachable(f"model.path={name}: is not on this machine, and the hub did not answer ({error})") from None
    if answer.status_code in NO_ACCESS:
        raise ConfigError(f"model.path={name}: the hub has no such public model; check the name, or set HF_TOKEN")
    if answer.status_code == MISSING:
        raise ConfigError(f"model.path={name}: the hub has no config.json of that name")
    if answer.is_error:
        raise Unreachable(f"model.path={name}: is not on this machine, and the hub answered {answer.status_code}")
    return answer.text
