"""Evaluations that take a second: an oracle on a few tasks, which solves some of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tau2_exp.compose.composition import compose_config
from tau2_exp.interfaces import Agent, World
from tau2_exp.policies.action import say
from tau2_exp.policies.oracle import OraclePolicy
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tau2_exp.stages import policies as stage_policies
from tau2_exp.stages import run_stage
from tau2_exp.types import Action, EpisodeSpec, Message

QUICK = ("stage=eval", "policy=oracle", "policy.oracle=gold", "domain.eval_splits=[test]", "stage.samples_per_prompt=2")


def frozen(folder: Path, *overrides: str) -> Run:
    config = compose_config([*QUICK, "domain.limit=2", *overrides])
    return Run.create(config, content_address(config, None), folder)


class Quitter:
    """Ends the conversation at once."""

    async def act(self, heard: Sequence[Message]) -> Action:
        return say("Goodbye.", done=True)

    def close(self) -> None:
        """Nothing is held."""


class FallibleOracle(OraclePolicy):
    """Quits where the seed is odd, so that samples of one task differ, and differ from the greedy one."""

    def make_agent(self, world: World, spec: EpisodeSpec) -> Agent:
        return Quitter() if spec.seed % 2 else super().make_agent(world, spec)


def evaluated(folder: Path, *overrides: str) -> Run:
    run = frozen(folder, *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_policies, "OraclePolicy", FallibleOracle)
        run_stage(run)
    return run
