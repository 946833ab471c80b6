"""Packages of the user's that bring groups and choices: imported before the configuration is composed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tau2_exp.plugins.loading import import_module


def conf_folders(packages: Sequence[str]) -> list[Path]:
    """Import the packages, which may register groups with Hydra's ConfigStore; their folders of YAML (`conf/`).

    Raises ConfigError for one that cannot be imported.
    """
    folders: list[Path] = []
    for name in packages:
        module = import_module(name, f"plugins=[{name}]")
        places = [Path(place) for place in getattr(module, "__path__", ())]
        folders += [place / "conf" for place in places if (place / "conf").is_dir()]
    return folders
