"""The results of a run that slime trained, as its results.json holds them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tau2_exp.config import GrpoConfig
from tau2_exp.engines.slime.cluster.cached import CONVERSION, TRACKER, read_conversion
from tau2_exp.engines.slime.plan.places import CHECKPOINTS, MODEL, SUMMARY
from tau2_exp.runs.run import Run
from tau2_exp.system.commands import Command


def training_results(run: Run, commands: Sequence[Command]) -> dict[str, Any]:
    """Its model, its steps, what it learned from, and every conversion between formats on the way."""
    return {
        **_learned_from(run),
        "steps": int((run.folder / CHECKPOINTS / TRACKER).read_text()) + 1,  # slime counts from 0
        "model": MODEL,
        "conversions": _conversions(run.folder, commands),
    }


def _learned_from(run: Run) -> dict[str, int]:
    """Rows, as the part that wrote them says, or the episodes of all steps."""
    if isinstance(run.config.stage, GrpoConfig):
        steps = run.metrics()
        return {name: sum(step.get(name, 0) for step in steps) for name in ("episodes", "faults")}
    return json.loads((run.folder / SUMMARY).read_text())


def _conversions(folder: Path, commands: Sequence[Command]) -> dict[str, Any]:
    """By the name of the command that made it: where it lies, from what, and the hash of that where it is known."""
    made = {c.name: Path(c.makes).resolve() for c in commands if c.makes and (Path(c.makes) / CONVERSION).is_file()}
    told = {name: read_conversion(path) for name, path in made.items()}
    return {
        name: {"folder": os.path.relpath(made[name], folder.resolve()), "source": of.source, "content": of.content}
        for name, of in told.items()
    }
