"""The user's own logger beside a run. What it raises is said once, and the run goes on without it."""

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
    """A RunLogger that never ends a run. A resumed run makes it anew, and tells it only of what comes then."""

    def __init__(self, config: Config, folder: Path):
        path = config.logger.function
        self._given = f"logger.function={path}"
        self._own: RunLogger | None = None
        try:
            self._own = make("logger.function", str(path), config, folder)
        except Exception as error:
            self._give_up(str(error))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._tell("log", dict(metrics), step)

    def episodes(self, files: Mapping[str, Sequence[Trajectory]]) -> None:
        self._tell("episodes", files)

    def summary(self, results: Mapping[str, Any]) -> None:
        self._tell("summary", dict(results))

    def use(self, product: Product) -> None:
        """Models are kept in run folders; only W&B is told of them."""

    def keep(self, product: Product) -> None:
        """The same."""

    def finish(self, failed: bool) -> None:
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
