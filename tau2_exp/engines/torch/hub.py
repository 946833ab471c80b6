"""Files of a published model, from Hugging Face's hub or its cache on this machine."""

from __future__ import annotations

from pathlib import Path

from tau2_exp.config import ConfigError


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
