"""How far a run is: progress.json in its folder, which boards and `status` read."""

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
    """The progress of one part of a stage; `seconds` is the time from step `began` to step `done`."""

    label: str
    done: int
    total: int
    began: int  # where this process took it up
    seconds: float
    values: dict[str, float] = field(default_factory=dict)  # the newest: reward, loss, …

    @property
    def seconds_left(self) -> float | None:
        """The seconds left at the pace so far; None before the first step."""
        taken = self.done - self.began
        return self.seconds / taken * (self.total - self.done) if taken > 0 else None

    def write(self, folder: Path) -> None:
        """Write progress.json into a run's folder."""
        write_json(folder / FILE, encode(self))


def read_progress(folder: Path) -> Progress | None:
    """The progress of the run in this folder; None before it reports any. Raises ConfigError for a damaged file."""
    try:
        return decode(Progress, json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        mend = "remove it; the run writes it again"
        raise ConfigError(f"{folder / FILE}: cannot be read ({error}); {mend}") from None
