"""LoRA through the stages: small checkpoints on the way, merged weights at the end, a new adapter after them."""

from __future__ import annotations

import json

import pytest
import torch
from flows import kill_at, unlike
from safetensors.torch import load_file

from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.learner import CHECKPOINT

pytest.importorskip("peft", reason="peft is not installed (it is in the extra hf)")

SETTINGS = (
    "stage=grpo",
    "model.lora=4",
    "stage.steps=3",
    "stage.lr=0.01",
    "stage.kl=0.1",
    "stage.prompts_per_step=2",
    "stage.samples_per_prompt=4",
    "stage.refill=0",
    "stage.save_every=2",
    "domain.max_steps=30",
    "rollout.unparsable_limit=2",
    "reward.unparsable_penalty=0.1",
)


def test_a_killed_run_ends_as_one_that_was_not_and_the_next_adapts_its_merged_weights(
    make_run, pupil: Run, demos: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = make_run(*SETTINGS, parent=pupil), make_run(*SETTINGS, parent=pupil)
    run_stage(whole)
    kill_at(3, killed, run_stage, monkeypatch)
    last, base = killed.folder / CHECKPOINT, pupil.folder / CHECKPOINT
    assert not (last / "model.safetensors").exists()
    assert json.loads((last / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    small, large = ((last / "training.pt").stat().st_size, (base / "model.safetensors").stat().st_size)
    assert small < large / 4, "optimiser states of the adapter alone"
    again = Run.open(killed.folder)
    run_stage(again)
    assert "resuming after step 2 of 3" in capsys.readouterr().out
    assert not unlike(whole.folder, killed.folder)
    merged, before = (load_file(folder / "model.safetensors") for folder in (last, base))
    moved = {name.split(".")[-2] for name, weight in merged.items() if not torch.equal(weight, before[name])}
    assert moved == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    assert any(step.get("kl", 0) > 0 for step in again.metrics())
    assert sorted(path.name for path in (last / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]

    data = demos.folder / "trajectories/demos.jsonl"
    more = (f"stage.data={data}", "stage.epochs=1", "model.lora=2", "model.lora_targets=[q_proj]")
    after = make_run("stage=sft", *more, "model.lora_dropout=0.3", parent=again)
    run_stage(after)
    child = after.folder / CHECKPOINT
    assert json.loads((child / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(last)
    changed = load_file(child / "model.safetensors")
    names = {name for name, weight in changed.items() if not torch.equal(weight, merged[name])}
    assert names == {"model.layers.0.self_attn.q_proj.weight"}
