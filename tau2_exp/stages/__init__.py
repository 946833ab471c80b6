"""The stages by the name they are dispatched under; each imported only when it is run."""

from __future__ import annotations

import asyncio
import importlib

from tau2_exp.engines.slime.plan.plan import is_planned
from tau2_exp.runs.run import Run

STAGES = {
    "demos": "demos:demos",
    "sft": "sft:sft",
    "rft": "rft:rft",
    "grpo": "grpo:grpo",
    "eval": "eval:evaluate",
    "custom": "custom:custom",
    "pipeline": "pipeline:pipeline",
}


def run_stage(run: Run) -> None:
    """Do the stage of a frozen run, in its folder, to its end."""
    if is_planned(run.config):
        importlib.import_module(f"{__name__}.slime").by_plan(run)
        return
    module, function = STAGES[run.stage].split(":")
    asyncio.run(getattr(importlib.import_module(f"{__name__}.{module}"), function)(run))
