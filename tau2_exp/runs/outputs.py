"""The folder that runs lie in: the names that their folders may have, and the runs that are there."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.config.names import NAME_RULE, is_name
from tau2_exp.runs.run import Run, RunStatus


def check_name(name: str | None) -> None:
    """Raises ConfigError for one that a run's folder cannot have."""
    if name is not None and not is_name(name):
        raise ConfigError(f"name={ascii(name)[1:-1]}: {NAME_RULE}")


def folder_name(stage: str, address: str) -> str:
    """A name for a new run's folder: the time, the stage, and the beginning of the address."""
    return f"{datetime.now():%Y-%m-%d_%H%M%S}-{stage}-{address[:8]}"


def index_runs(outputs: Path) -> dict[str, Run]:
    """By content address, the run folders directly under `outputs`: a finished one, else the newest to go on with."""
    found: dict[str, Run] = {}
    for path in sorted(outputs.glob("[!.]*/manifest.json")):
        if path.parent.is_symlink():  # another name of a run
            continue
        run = Run(path.parent)
        try:
            before = found.get(run.manifest.address)
        except ConfigError as error:
            print(f"skipped: {error}", file=sys.stderr, flush=True)
            continue
        if before is None or before.status is not RunStatus.finished:
            found[run.manifest.address] = run
    return found
