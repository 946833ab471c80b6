"""slime and its stand-in, and GRPO runs on two telecom tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import slime_contract
from slime_contract import MakeRun

from tau2_exp.compose.composition import compose_config
from tau2_exp.engines.slime.hooks import context, generator
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tests.stages.conftest import SMALL, demos, pupil

__all__ = ["demos", "pupil"]


@pytest.fixture(params=["stand-in", "slime"])
def slime(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    if request.param == "stand-in":
        with slime_contract.stand_in() as stand_in:
            yield stand_in
        return
    with ExitStack() as stack:
        try:
            itself = stack.enter_context(slime_contract.itself())
        except ImportError as error:
            pytest.skip(f"slime is not beside the project, in SLIME_ROOT, or installed ({error})")
        yield itself


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No context of an earlier test, and no seconds to wait."""
    context.forget()
    monkeypatch.setattr(generator, "PAUSE", 0.01)


@pytest.fixture
def make_run(tmp_path: Path, pupil: Run) -> MakeRun:
    """A GRPO run on the pupil. Which machines slime wants is no matter of its hooks: the configuration says torch."""

    def named(*overrides: str, asynchronous: bool = False) -> Run:
        settings = ("stage=grpo", "stage.prompts_per_step=2", "stage.samples_per_prompt=3", *overrides)
        config = compose_config([*SMALL, *settings])
        config.engine.slime.asynchronous = asynchronous
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        return Run.create(config, content_address(config, pupil.manifest.address), folder, pupil)

    return named
