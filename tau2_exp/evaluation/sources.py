"""The results files that an evaluation was imported from, kept whole in its folder, so that nothing of them is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.domains.tasks import read_tasks
from tau2_exp.jsonl import write_json
from tau2_exp.types import Task

FOLDER = "imported"  # within a run's


@dataclass(frozen=True)
class Source:
    """One results file. Its simulations became episodes of `domain` in the run's trajectories `file`."""

    domain: str
    file: str
    results: dict[str, Any]

    @property
    def tasks(self) -> dict[str, Task]:
        """The file's tasks by `Task.key`; none where it held simulations only."""
        records = self.results.get("tasks") or []
        return {task.key: task for task in read_tasks(self.domain, records).values()}

    @property
    def simulations(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The file's simulations, by the task's key and the trial's number."""
        records = self.results["simulations"]
        return {(f"{self.domain}/{record['task_id']}", record["trial"]): record for record in records}


def write_sources(folder: Path, sources: Sequence[Source]) -> None:
    """Write results files into a run's folder, one JSON file each."""
    for place, source in enumerate(sources):
        path = folder / FOLDER / f"{place}-{source.domain}_{source.file}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"domain": source.domain, "file": source.file, "results": source.results})


def read_sources(folder: Path) -> list[Source]:
    """The results files kept in a run's folder; none where nothing was imported.

    Raises ConfigError for a damaged file.
    """
    return list(_read(folder))


def _read(folder: Path) -> Iterator[Source]:
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            data = json.loads(path.read_text())
            yield Source(data["domain"], data["file"], data["results"])
        except (ValueError, KeyError, TypeError) as problem:
            raise ConfigError(f"{path}: damaged ({problem}); import the evaluation anew") from None
