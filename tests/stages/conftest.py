"""Stages run in this process, on a few real telecom tasks and a model that takes seconds to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tau2_exp.compose.composition import compose_config
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage

SMALL = ("domain.limit=2", "model.layers=1", "rollout.concurrency=8")
MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(folder: Path, *overrides: str, parent: Run | None = None) -> Run:
    config = compose_config([*SMALL, *overrides])
    return Run.create(config, content_address(config, parent and parent.manifest.address), folder, parent)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def named(*overrides: str, parent: Run | None = None) -> Run:
        return make(tmp_path / f"run{len(list(tmp_path.iterdir()))}", *overrides, parent=parent)

    return named


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make(tmp_path_factory.mktemp("stages") / "demos", "stage=demos")
    run_stage(run)
    return run


@pytest.fixture(scope="session")
def pupil(demos: Run) -> Run:
    """An SFT run that has half learned its two tasks: it says much that parses, and much that does not."""
    settings = ("stage=sft", "stage.epochs=25", "stage.batch_size=1", "stage.lr=4e-3")
    run = make(demos.folder.with_name("sft"), *settings, parent=demos)
    run_stage(run)
    return run
