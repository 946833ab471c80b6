"""Settings that name a folder or a file: where ~ is read, and where a relative path becomes absolute."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tau2_exp.config.config import Config
from tau2_exp.config.errors import ConfigError
from tau2_exp.config.setting import settings_of

T = TypeVar("T")
# Folders of runs stay as they were typed: `outputs` may be moved as a whole.
RUN_FOLDERS = ("outputs", "parent", "resume")


def expand_home(config: Config) -> Config:
    """The configuration with ~ replaced in every path. Raises ConfigError for a home that is not known."""
    return _with_paths(config, "", lambda key, path: expanded(path, key))


def make_absolute(config: Config) -> Config:
    """The configuration with the paths of data and models made absolute, so that a run goes on from any folder."""
    return _with_paths(config, "", lambda key, path: path if key in RUN_FOLDERS else absolute(path))


def is_hub_name(path: str) -> bool:
    """Whether the path names a model on Hugging Face's hub: it has the form owner/model and is not on this machine."""
    return not re.match(r"[/.~]", path) and path.count("/") == 1 and not Path(path).exists()


def absolute(path: str) -> str:
    """The absolute path; a hub name stays as it is."""
    return path if is_hub_name(path) else str(Path(path).absolute())


def expanded(path: str, key: str = "resume") -> str:
    """The path with its ~ replaced. Raises ConfigError where there is no such home."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise ConfigError(f"{key}={path}: no home folder of that name; write the whole path") from None


def _with_paths(section: T, prefix: str, change: Callable[[str, str], str]) -> T:
    changed: dict[str, Any] = {}
    for one in settings_of(type(section)):
        key, value = prefix + one.key, getattr(section, one.key)
        if dataclasses.is_dataclass(value):
            changed[one.key] = _with_paths(value, f"{key}.", change)
        elif one.notes.is_path and isinstance(value, str):
            changed[one.key] = change(key, value)
    return dataclasses.replace(section, **changed) if changed else section  # type: ignore[type-var]
