"""A real pretrained model: its numbers are transformers', it learns a turn in seconds, and is saved for anyone."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tau2_exp.config import EngineConfig, HardwareConfig
from tau2_exp.engines.torch.checkpoint import end_ids, load_model
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.learning.batch import rows_from_demonstration
from tau2_exp.protocols.native import Native
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.types import Sampling
from tests.conftest import ROOT

transformers = pytest.importorskip("transformers")
LAUNCHER = ROOT / "launchers" / "smollm2.py"
FOLDER: Path = runpy.run_path(str(LAUNCHER))["FOLDER"]
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"needs SmolLM2: python {LAUNCHER.relative_to(ROOT)}")


def greedy(model: CausalLM, ids: Sequence[int], count: int) -> list[int]:
    """What our engine samples at temperature 0."""

    async def sample() -> list[int]:
        generator = TorchGenerator(model, EngineConfig())
        generator.open(0)
        sampling = Sampling(0.0, max_tokens=count, stop_ids=end_ids(FOLDER))
        return list((await generator.generate(0, ids, sampling, seed=0)).ids)

    return asyncio.run(sample())


def compare(folder: Path, ids: Sequence[int], count: int) -> list[int]:
    """Load a checkpoint by us and by transformers, hold their logits and greedy ids equal, and return the latter."""
    ours = load_model(folder, HardwareConfig(name="test"))
    assert isinstance(ours, CausalLM)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    context = torch.tensor(ids)
    with torch.no_grad():
        wanted = theirs(context[None]).logits[0]
        assert torch.allclose(ours.logits(ours.packed(context, [len(ids)])), wanted, atol=1e-4, rtol=1e-4)
        told = theirs.generate(context[None], do_sample=False, max_new_tokens=count)[0, len(ids) :].tolist()
    assert greedy(ours, ids, count) == told
    return told


def test_a_real_model_learns_a_turn_and_transformers_says_it_too(make_run, demos: Run, tmp_path: Path) -> None:
    trajectory = next(demos.trajectories("demos"))
    first = json.loads((demos.folder / "trajectories/demos.jsonl").read_text().splitlines()[0])
    file = tmp_path / "first-turn.jsonl"
    file.write_text(json.dumps(first | {"turns": first["turns"][:1]}))
    tokenizer = load_tokenizer(FOLDER)
    row = rows_from_demonstration(trajectory, Native(), tokenizer, "", None)
    start, end = row.trained.index(True), row.trained.index(False, row.trained.index(True))
    prompt, call = list(row.ids[:start]), list(row.ids[start:end])
    assert compare(FOLDER, prompt, 8) != call[:8]

    training = ("stage.epochs=5", "stage.batch_size=1", "stage.lr=2e-4", "stage.warmup=0")
    run = make_run("stage=sft", "model=smollm2", "domain.document=none", f"stage.data={file}", *training)
    run_stage(run)
    assert [metrics["trained_tokens"] for metrics in run.metrics()] == [len(call)] * 5
    learned = run.folder / run.results["model"]
    assert compare(learned, prompt, len(call)) == call
    assert transformers.AutoTokenizer.from_pretrained(learned).decode(call) == tokenizer.decode(call)
