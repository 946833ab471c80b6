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
TRAINED = ("sft", "rft", "grpo")


def run_stage(run: Run) -> None:
    """Do the stage of a frozen run, in its folder, to its end."""
    if by_plan(run.config):
        importlib.import_module(f"{__name__}.slime").by_plan(run)
        return
    module, function = STAGES[run.stage].split(":")
    asyncio.run(getattr(importlib.import_module(f"{__name__}.{module}"), function)(run))


def by_plan(config: Config) -> bool:
    """Whether a plan does this stage: slime trains in it, or a model is served for it."""
    if config.engine.name is not EngineName.slime:
        return False
    name, speaks = config.stage.name, config.policy.kind is PolicyKind.model
    return name in TRAINED or (name == "eval" and speaks) or (name in ("eval", "demos") and bool(config.user.serve))
