"""What one run of the check was asked for, as its processes hand it on."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / "packed"  # in an unpacked archive: what the target may lack, and the manifest


@dataclass(frozen=True)
class Settings:
    device: str  # cuda or cpu
    tiny: bool
    out: Path
    weights: Path | None  # the folder of the weights' parts
    seconds: float = 0.0  # that a part has; 0: no limit

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "out": str(self.out), "weights": _text(self.weights)})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        data = json.loads(text)
        weights = Path(data["weights"]) if data["weights"] else None
        return cls(**{**data, "out": Path(data["out"]), "weights": weights})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def environment(device: str) -> dict[str, str]:
    """What every process of the check has: the project, its benchmarks and what was packed are to be imported."""
    path = [*map(str, (ROOT, ROOT / "benchmarks", PACKED / "site")), *filter(None, [os.environ.get("PYTHONPATH")])]
    common = {
        "PYTHONPATH": ":".join(path),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the target's plugins may not fit the packed pytest
        "TOKENIZERS_PARALLELISM": "false",
        "KINETO_LOG_LEVEL": "5",
        "HF_HUB_OFFLINE": "1",
    }
    return common | ({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} if device == "cpu" else {})
