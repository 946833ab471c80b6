"""What a run depends on, and what it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tau2_exp import __version__
from tau2_exp.config import TASK_REVISION
from tau2_exp.plugins import Plugin

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "inspect-evals", "tau2", "litellm", "hydra-core")


@dataclass(frozen=True)
class Change:
    """Settings that a later command changed, for what was then left to do."""

    at: str
    settings: dict[str, tuple[Any, Any]]  # by dotted name: before, after


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. Folders are relative to the run's own, so that `outputs` can be moved."""

    stage: str
    address: str  # of its content: see tau2_exp/runs/address.py
    created: str
    seed: int
    argv: tuple[str, ...] = ()
    commit: str | None = None  # see tau2_exp/system/code.py
    versions: dict[str, str] | None = None
    revision: str = TASK_REVISION
    provider: str | None = None  # of the tasks; known once the run has loaded them
    hardware: dict[str, Any] | None = None  # the worker's
    seconds: float = 0.0  # that workers spent on it; those of a killed attempt are lost
    parent: str | None = None
    parent_address: str | None = None
    members: tuple[str, ...] = ()  # of a pipeline, in the order they are made
    member_addresses: tuple[str, ...] = ()
    code: str | None = None  # the copy of the code that its jobs on a cluster are done with
    changes: tuple[Change, ...] = ()  # of settings that change no result, made when it was taken up again
    plugins: tuple[Plugin, ...] = ()  # what the user brought to it


def installed_versions() -> dict[str, str]:
    """The versions of tau2_exp and of those of PACKAGES that are installed, by name."""
    found = {"tau2_exp": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
