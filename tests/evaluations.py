"""Evaluations that take a second: an oracle on a few tasks."""

from __future__ import annotations

from pathlib import Path

from tau2_exp.address import content_address
from tau2_exp.compose import compose_config
from tau2_exp.rundir import Run
from tau2_exp.stages import run_stage

QUICK = ("stage=eval", "policy=oracle", "policy.oracle=gold", "domain.eval_splits=[test]", "stage.samples_per_prompt=2")


def frozen(folder: Path, *overrides: str) -> Run:
    config = compose_config([*QUICK, "domain.limit=2", *overrides])
    return Run.create(config, content_address(config, None), folder)


def evaluated(folder: Path, *overrides: str) -> Run:
    run = frozen(folder, *overrides)
    run_stage(run)
    return run
