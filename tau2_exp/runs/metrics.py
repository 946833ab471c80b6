"""The metrics of a run: one line a step, in metrics.jsonl of its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.jsonl import JsonlWriter, read_jsonl, write_jsonl


class MetricsFile:
    """The file of one run. It is opened by the first line that is appended."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._lines: JsonlWriter | None = None

    def append(self, metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Append a line, in which a number that is not finite is null; returns what it says but the step."""
        if self._lines is None:
            self._lines = JsonlWriter(self._path)
        clean = {key: _finite(value) for key, value in metrics.items()}
        self._lines.write({"step": step, **clean})
        return clean

    def read(self) -> list[dict[str, Any]]:
        """One record a step, each with its `step`. Raises ConfigError, naming the line, where one is damaged."""
        try:
            return list(read_jsonl(self._path))
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def rewind(self, step: int) -> None:
        """Remove the lines after `step`."""
        self.close()
        write_jsonl(self._path, [record for record in self.read() if record["step"] <= step])

    def close(self) -> None:
        """Close the file. Raises OSError naming it."""
        lines, self._lines = self._lines, None
        if lines:
            lines.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
