"""A finished evaluation that was not played here: made from episodes that others played, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tau2_exp.config import Config, ConfigError
from tau2_exp.evaluation.plan import Plan
from tau2_exp.evaluation.scores import Played, evaluation_results
from tau2_exp.evaluation.sources import Source, write_sources
from tau2_exp.evaluation.table import evaluation_table
from tau2_exp.runs.run import Run


def write_evaluation(
    folder: Path,
    config: Config,
    address: str,
    plan: Plan,
    played: Played,
    *,
    label: str,
    provider: str,
    facts: Mapping[str, Any],
    sources: Sequence[Source] = (),
    parent: Run | None = None,
    members: Sequence[Run] = (),
    note: str = "",
) -> Run:
    """Writes the run at `folder`, which appears when all of it is there.

    `facts` go into its results, over what the settings say: of an agent that was played elsewhere, files tell more
    or less than settings can hold. `note` ends its table. Raises ConfigError where the folder exists.
    """
    if folder.exists():
        raise ConfigError(f"name={folder.name}: {folder} already exists; use another name or remove it")
    results = {**evaluation_results(config, provider, plan, played), **facts}
    table = "\n".join(filter(None, [evaluation_table([(label, results)]), note]))
    part = folder.with_name(f".{folder.name}.{uuid4().hex}")  # beside it, so that relative paths hold
    try:
        run = Run.create(config, address, part, parent, members)
        run.record(provider=provider)
        plan.freeze(part)
        write_sources(part, sources)
        for name, trajectories in played.items():
            with run.write_trajectories(name) as lines:
                for trajectory in trajectories:
                    lines.write(trajectory)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    run = Run(folder)
    try:
        run.finish(results, table)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run
