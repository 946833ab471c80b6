"""A finished evaluation made from episodes that were run elsewhere, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tau2_exp.config import Config
from tau2_exp.evaluation.plan import Plan
from tau2_exp.evaluation.scores import Played, evaluation_results
from tau2_exp.evaluation.sources import Source, write_sources
from tau2_exp.evaluation.table import evaluation_table
from tau2_exp.files import clear_leftovers
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
    """Write the run at `folder`, which appears when all of it is there.

    `facts` go into its results, over what the settings hold: files of another agent hold more or less than settings
    can. `note` ends its table. Raises ConfigError where the folder exists.
    """
    results = {**evaluation_results(config, provider, plan, played), **facts}
    table = "\n".join(filter(None, [evaluation_table([(label, results)]), note]))
    clear_leftovers(folder.parent)
    with Run.making(config, address, folder, parent, members) as made:
        made.record(provider=provider)
        plan.freeze(made.folder)
        write_sources(made.folder, sources)
        for name, trajectories in played.items():
            with made.write_trajectories(name) as lines:
                for trajectory in trajectories:
                    lines.write(trajectory)
    run = Run(folder)
    try:
        run.finish(results, table)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run
