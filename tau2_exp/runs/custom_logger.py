"""A user's own logger beside a run. An error of it is printed once, and the run continues without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tau2_exp.config import Config
from tau2_exp.interfaces import RunLogger
from tau2_exp.plugins import in_one_line, make
from tau2_exp.runs.wandb import Product
from tau2_exp.types import Trajectory


class CustomLogger:
    """A user's own RunLogger, whose errors never end a run.

    A resumed run makes it anew and logs only what comes then.
    """

    def __init__(self, config: Config, folder: Path):
        path = config.logger.function
        self._given = f"logger.function={path}"
        self._own: RunLogger | None = None
        try:
            self._own = make("logger.function", str(path), config, folder)
        except Exception as error:
            self._give_up(str(error))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Pass on one step's metrics."""
        self._tell("log", dict(metrics), step)

    def episodes(self, files: Mapping[str, Sequence[Trajectory]]) -> None:
        """Pass on some trajectories of each file."""
        self._tell("episodes", files)

    def summary(self, results: Mapping[str, Any]) -> None:
        """Pass on the results."""
        self._tell("summary", dict(results))

    def use(self, product: Product) -> None:
        """Does nothing: models are kept in run folders, and only W&B has artifacts."""

    def keep(self, product: Product) -> None:
        """Does nothing, as `use`."""

    def finish(self, failed: bool) -> None:
        """End the log, and call the user's logger no more."""
        self._tell("finish", failed)
        self._own = None

    def _tell(self, method: str, *arguments: Any) -> None:
        try:
            if self._own is not None:
                getattr(self._own, method)(*arguments)
        except Exception as error:
            self._give_up(f"{self._given}: {method} raised {in_one_line(error)}")

    def _give_up(self, why: str) -> None:
        print(f"{why}; continuing without it (the run's folder holds everything)", flush=True)
        self._own = None
