"""A run whose folder is gone: known by what a run that was made from it holds of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from tau2_exp.config import Config, ConfigError, from_data
from tau2_exp.runs.ancestors import Ancestor
from tau2_exp.runs.manifest import Manifest
from tau2_exp.runs.run import Run, RunStatus

UNKNOWN = Manifest(stage="unknown", address="", created="", seed=0)


class GoneRun(Run):
    """A run of unknown status, without results, metrics and episodes."""

    def __init__(self, folder: Path, address: str, ancestors: dict[str, Ancestor]) -> None:
        """`folder`: where it was looked for. `ancestors`: all that its child holds, by address."""
        super().__init__(folder)
        known = ancestors.get(address)
        self.ancestors = ancestors
        self.manifest = known.manifest if known else UNKNOWN
        if known:
            self.config = from_data(known.config)

    @cached_property
    def config(self) -> Config:
        """The run's settings, where its child holds them. Raises ConfigError where it does not."""
        raise ConfigError(f"{self.folder}: the run is gone, and no other holds its settings; put it back")

    @property
    def status(self) -> RunStatus:
        """Always unknown."""
        return RunStatus.unknown

    @property
    def results(self) -> dict[str, Any]:
        """Raises ConfigError, always."""
        raise ConfigError(f"{self.folder}: the run is gone, or was renamed to another place; put it back")
