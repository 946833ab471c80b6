"""Whole stages by plan, on a CPU: real commands, real Ray, real HTTP, and a stand-in where slime's folder is.

Only two things are not as on a GPU: slime's own scripts (see stand_in/), and the engine that serves the policy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tau2_exp.codec import decode
from tau2_exp.config import Config
from tau2_exp.engines.slime.plan.plan import make_plan
from tau2_exp.jsonl import read_jsonl
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.stages import run_stage, slime
from tau2_exp.stages.rows import sft_summary
from tau2_exp.stages.slime_parts import do_part
from tau2_exp.system.commands import Command
from tau2_exp.types import Row
from tests.stages.conftest import make

ROOT = Path(__file__).with_name("stand_in")
BY_SLIME = ("engine=slime", "hardware=gpu_2", f"engine.slime.root={ROOT}", "engine.slime.tensor_parallel=1")


def on_cpu(config: Config, folder: Path, start: str) -> list[Command]:
    """The plan, with the policy served by the engine that needs no GPU."""
    return [served_by_torch(c) if c.name == "policy" else c for c in make_plan(config, folder, start)]


def served_by_torch(command: Command) -> Command:
    argv = [word for word in command.argv if not word.startswith("--flags=")]
    for option in ("--gpus", "--memory-fraction"):
        place = argv.index(option)
        del argv[place : place + 2]
    argv[argv.index("sglang")] = "torch"
    return dataclasses.replace(command, argv=tuple(argv))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all runs, which share their conversions."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def by_slime(outputs: Path, pupil: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setattr(slime, "make_plan", on_cpu)
    model = pupil.folder / pupil.results["model"]
    size = json.loads((model / "config.json").read_text())["vocab_size"]
    settings = (*BY_SLIME, f"model.path={model}", f"model.vocab_size={size}")

    def named(name: str, *overrides: str, parent: Run) -> Run:
        return make(outputs / name, *settings, *overrides, parent=parent)

    return named


def test_rft_takes_a_model_from_one_engine_and_hands_it_to_the_other(
    by_slime: Callable[..., Run], pupil: Run, outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("stage.samples_per_prompt=2", "stage.keep_partial=0", "stage.epochs=1", "stage.batch_size=2")
    run = by_slime("rft", "stage=rft", *settings, parent=pupil)
    run_stage(run)
    rows = [decode(Row, record) for record in read_jsonl(run.folder / "slime/rows.jsonl")]
    results = run.results
    assert run.status is RunStatus.finished and results["kept"] == len(rows) > 0 and results["samples"] == 4
    assert results["steps"] == -(-len(rows) // 2) == len(run.metrics())
    assert results["conversions"]["base"]["content"]
    assert results["conversions"]["export"]["source"].endswith(f"iter_{results['steps'] - 1:07d}")
    assert changed(run, pupil)
    told = capfd.readouterr().out
    assert told.index("policy: ready") < told.index("samples: done") < told.index("policy: ended")
    assert told.index("policy: ended") < told.index("ray: ready") < told.index("train: done") < told.index("export: d")

    evaluation = make(outputs / "eval", "stage=eval", "stage.samples_per_prompt=1", parent=run)
    run_stage(evaluation)  # by the torch engine
    assert evaluation.results["splits"]["test"]["tasks"] == 2


def test_grpo_plays_trains_and_swaps_weights(by_slime: Callable[..., Run], pupil: Run) -> None:
    settings = ("stage.steps=2", "stage.prompts_per_step=2", "stage.samples_per_prompt=2", "stage.refill=0")
    run = by_slime("grpo", "stage=grpo", *settings, "stage.updates_per_step=1", parent=pupil)
    run_stage(run)
    assert [line["step"] for line in run.metrics()] == [1, 2]
    assert run.results["episodes"] == len(list(run.trajectories("rollouts"))) == 8
    assert run.results["steps"] == 2 and changed(run, pupil)
    assert not list((run.folder / "servers").iterdir()), "all servers are down"


def changed(child: Run, parent: Run) -> bool:
    """Whether training changed the weights, and nothing else did."""
    mine, theirs = (run.folder / run.results["model"] for run in (child, parent))
    assert json.loads((mine / "config.json").read_text()) == json.loads((theirs / "config.json").read_text())
    assert (mine / "tokenizer.json").read_bytes() == (theirs / "tokenizer.json").read_bytes()
    return (mine / "model.safetensors").read_bytes() != (theirs / "model.safetensors").read_bytes()


def test_what_slime_reads_is_written_whole_and_names_the_run(by_slime: Callable[..., Run], pupil: Run) -> None:
    assert pupil.parent is not None
    sft = by_slime("sft", "stage=sft", "stage.batch_size=2", parent=pupil.parent)
    do_part("rows", sft)
    rows = [decode(Row, record) for record in read_jsonl(sft.folder / "slime/rows.jsonl")]
    assert json.loads((sft.folder / "slime/summary.json").read_text()) == sft_summary(rows)
    assert len(rows) == pupil.results["conversations"]  # of the same demonstrations, by the same code
    assert json.loads((sft.folder / "slime/config.yaml").read_text()) == {"tau2_exp_run": str(sft.folder)}

    grpo = by_slime("tasks", "stage=grpo", "stage.prompts_per_step=2", parent=pupil)
    do_part("tasks", grpo)
    lines = list(read_jsonl(grpo.folder / "slime/tasks.jsonl"))
    keys = [f"{line['metadata']['domain']}/{line['metadata']['task']}" for line in lines]
    assert [line["text"] for line in lines] == keys and len(set(keys)) == 2
