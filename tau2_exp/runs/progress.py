"""How far a run is: progress.json in its folder, for boards and `status`, whoever does the run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.jsonl import write_json

FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """One stretch of work within a stage; `seconds` is what it took from `began` to `done`."""

    label: str
    done: int
    total: int
    began: int  # where this process took it up
    seconds: float
    values: dict[str, float] = field(default_factory=dict)  # the newest: reward, loss, …

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first step."""
        taken = self.done - self.began
        return self.seconds / taken * (self.total - self.done) if taken > 0 else None

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, encode(self))


def read_progress(folder: Path) -> Progress | None:
    """None where the run in this folder has told nothing yet. Raises ConfigError where the file is damaged."""
    try:
        return decode(Progress, json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        mend = "remove it; the run writes it anew as it goes on"
        raise ConfigError(f"{folder / FILE}: cannot be read ({error}); {mend}") from None
