"""A model that transformers computes goes through the stages: learned, sampled, killed, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from flows import find, kill_at, read, run_py, unlike

from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.learner import CHECKPOINT
from tests.engines.families import with_tokenizer

transformers = pytest.importorskip("transformers")
CONVERSATION = {"prompt": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}
GRPO = (
    "stage=grpo", "model=hf", "reward=custom", "reward.function=tests.brought:variety", "stage.steps=2",
    "stage.lr=0.01", "stage.kl=0.1", "stage.prompts_per_step=1", "stage.samples_per_prompt=3", "stage.refill=0",
    "stage.save_every=1", "domain.document=none", "model.schemas=false", "model.max_new_tokens=8",
    "rollout.unparsable_limit=2", "engine.recompute=true",
)  # fmt: skip


def test_a_killed_grpo_run_of_a_hybrid_model_ends_as_one_that_was_not(make_run, tmp_path, monkeypatch, capsys) -> None:
    path = f"model.path={with_tokenizer('qwen3.5', tmp_path / 'hybrid')}"
    whole, killed = make_run(*GRPO, path), make_run(*GRPO, path)
    run_stage(whole)
    kill_at(2, killed, run_stage, monkeypatch)
    again = Run.open(killed.folder)
    run_stage(again)
    assert "resuming after step 1 of 2" in capsys.readouterr().out
    assert not unlike(whole.folder, killed.folder)
    steps = list(again.metrics())
    assert all(step["grad_norm"] > 0 for step in steps) and any(step["kl"] > 0 for step in steps)
    assert all(step["drift"] < 1e-6 for step in steps), "the trainer's log-probabilities are the sampler's"


def test_a_command_line_trains_a_model_with_windows(tmp_path: Path) -> None:
    folder, outputs, data = with_tokenizer("gemma3", tmp_path / "m"), tmp_path / "outputs", tmp_path / "x.jsonl"
    data.write_text(json.dumps(CONVERSATION) + "\n")
    done = run_py(
        "stage=sft", f"stage.data={data}", "stage.epochs=2", "model=hf", f"model.path={folder}", outputs=outputs
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model: gemma3_text, by transformers: rows are padded, ")
    (sft,) = find(outputs, "sft")
    assert read(sft / "config.json")["engine"]["backbone"] == "transformers"
    made = transformers.AutoModelForCausalLM.from_pretrained(sft / CHECKPOINT)
    before = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(made).__name__ == "Gemma3ForCausalLM"
    pairs = zip(made.parameters(), before.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)
