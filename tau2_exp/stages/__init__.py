"""The stages by the name they are dispatched under; each imported only when it is run."""

from __future__ import annotations

import asyncio
import importlib

from tau2_exp.config import Config, EngineName, PolicyKind
from tau2_exp.rundir import Run

STAGES = {
    "demos": "demos:demos",
    "sft": "sft:sft",
    "rft": "rft:rft",
    "grpo": "grpo:grpo",
    "eval": "eval:evaluate",
    "pipeline": "pipeline:pipeline",
}
BY_PLAN = ("sft", "rft", "grpo", "eval")  # with engine=slime


def run_stage(run: Run) -> None:
    """Do the stage of a frozen run, in its folder, to its end."""
    if by_plan(run.config):
        importlib.import_module(f"{__name__}.slime").by_plan(run)
        return
    module, function = STAGES[run.stage].split(":")
    asyncio.run(getattr(importlib.import_module(f"{__name__}.{module}"), function)(run))


def by_plan(config: Config) -> bool:
    """Whether slime's processes do this stage: they have the model, where it is one of ours."""
    ours = config.policy.kind is PolicyKind.model
    return config.engine.name is EngineName.slime and config.stage.name in BY_PLAN and ours
