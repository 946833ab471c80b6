"""The smoke experiment as a user runs it, and what it leaves to be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flows import find, lines, read, run_py, unlike

from tau2_exp.config import TASK_REVISION
from tau2_exp.jsonl import read_jsonl
from tau2_exp.report.arms import flatten
from tau2_exp.statistics import Measure

TRAINED = ("sft", "rft", "grpo")
TASKS = 4


def test_it_ends_with_one_table_of_what_each_stage_came_to(smoke, smoke_outputs: Path) -> None:
    table = _table(smoke.stdout)
    title, heading = table[0], next(line for line in table if "stage" in line)
    assert TASK_REVISION in title and "user: scripted" in title
    assert re.split(r"\s{2,}", heading.strip()) == [
        "stage", "split", "tasks", "greedy pass@1", "pass@1", "pass@2", "pass^2",
    ]  # fmt: skip
    rows = [re.split(r"\s{2,}", line.strip()) for line in table if re.search(r"\[.*\]", line)]
    assert [row[:3] for row in rows] == [
        [stage, split, str(TASKS)] for stage in ("(do nothing)", *TRAINED) for split in ("train", "test")
    ]
    for row in rows:
        assert len(row) == 7
        for cell in row[3:]:
            value, low, high = map(float, re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", cell).groups())
            assert 0 <= low <= value <= high <= 1
    assert smoke.stderr == ""


def test_the_table_says_what_the_evaluations_hold(smoke, smoke_outputs: Path) -> None:
    rows = [re.split(r"\s{2,}", line.strip()) for line in _table(smoke.stdout) if re.search(r"\[.*\]", line)]
    for evaluation in find(smoke_outputs, "eval"):
        parent = read(evaluation / read(evaluation / "manifest.json")["parent"] / "manifest.json")["stage"]
        for split, result in read(evaluation / "results.json")["splits"].items():
            outcomes = list(result["outcomes"].values())
            assert len(outcomes) == TASKS and all(len(samples) == 2 for samples in outcomes)
            mean = sum(map(sum, outcomes)) / (2 * TASKS)
            cell = next(row[4] for row in rows if row[:2] == [parent, split])
            assert cell.startswith(f"{mean:.2f} [") and result["measures"]["pass@1"]["value"] == pytest.approx(mean)
            assert set(result["measures"]) >= {f"{measure.value}2" for measure in Measure}
            assert lines(evaluation / "trajectories" / f"{split}.jsonl") == 2 * TASKS


def test_its_folders_hold_all_there_is_to_know(smoke, smoke_outputs: Path) -> None:
    assert len(find(smoke_outputs, "demos")) == 1 and len(find(smoke_outputs, "pipeline")) == 1
    assert len(find(smoke_outputs, "eval")) == len(TRAINED)
    for folder in smoke_outputs.iterdir():
        manifest, config = read(folder / "manifest.json"), read(folder / "config.json")
        assert manifest["argv"][1:] == [f"outputs={smoke_outputs}", "experiment=smoke"]
        assert config["stage"]["name"] == manifest["stage"] and config["seed"] == manifest["seed"] == 0
        assert manifest["versions"]["torch"] and manifest["hardware"]["cores"] >= 1
        if manifest["stage"] != "pipeline":
            assert TASK_REVISION in manifest["provider"]
    before = "demos"
    for stage in TRAINED:
        (folder,) = find(smoke_outputs, stage)
        parent = folder / read(folder / "manifest.json")["parent"]
        assert read(parent / "manifest.json")["stage"] == before
        results = read(folder / "results.json")
        assert lines(folder / "metrics.jsonl") == results["steps"] > 0
        assert (folder / results["model"] / "model.safetensors").is_file()
        assert not (folder / results["model"] / "training.pt").exists(), "a finished run keeps its weights alone"
        before = stage
    assert lines(find(smoke_outputs, "demos")[0] / "trajectories" / "demos.jsonl") == TASKS
    (rft,), (grpo,) = find(smoke_outputs, "rft"), find(smoke_outputs, "grpo")
    samples = TASKS * read(rft / "config.json")["stage"]["samples_per_prompt"]
    assert lines(rft / "trajectories" / "samples.jsonl") == read(rft / "results.json")["samples"] == samples
    assert lines(grpo / "trajectories" / "rollouts.jsonl") == read(grpo / "results.json")["episodes"] > 0


def test_others_can_open_its_checkpoint(smoke, smoke_outputs: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    (grpo,) = find(smoke_outputs, "grpo")
    model = transformers.AutoModelForCausalLM.from_pretrained(grpo / "checkpoints/last")
    tokenizer = transformers.AutoTokenizer.from_pretrained(grpo / "checkpoints/last")
    (evaluation,) = (
        path for path in find(smoke_outputs, "eval") if grpo.name in read(path / "manifest.json")["parent"]
    )
    turn = next(read_jsonl(evaluation / "trajectories/train-greedy.jsonl"))["turns"][0]
    context, sampled = torch.tensor([turn["tokens"]["context"]]), turn["tokens"]["sampled"]
    said = model.generate(context, max_new_tokens=len(sampled), do_sample=False)[0, context.shape[1] :]
    assert said.tolist() == sampled
    assert tokenizer.decode(sampled) == turn["text"]


def test_a_second_time_all_of_it_is_found(smoke, smoke_outputs: Path) -> None:
    before = sorted(smoke_outputs.iterdir())
    again = run_py("experiment=smoke", outputs=smoke_outputs)
    assert again.returncode == 0 and sorted(smoke_outputs.iterdir()) == before
    assert _table(again.stdout) == _table(smoke.stdout)
    assert "to create" not in again.stdout and again.stdout.count(" reused ") == 8
    assert "training" not in again.stdout


def test_the_same_seed_gives_the_same_run_bit_for_bit(smoke, smoke_outputs: Path, tmp_path: Path) -> None:
    (rft,), (grpo,) = find(smoke_outputs, "rft"), find(smoke_outputs, "grpo")
    leaves = flatten(read(grpo / "config.json")["stage"], "stage")
    settings = [f"{key}={'null' if value is None else value}" for key, value in leaves]
    done = run_py("stage=grpo", f"domain.limit={TASKS}", *settings, f"parent={rft}", outputs=tmp_path)
    assert done.returncode == 0, done.stderr
    (again,) = find(tmp_path, "grpo")
    assert read(again / "manifest.json")["address"] == read(grpo / "manifest.json")["address"]
    assert unlike(grpo, again) == []


def _table(told: str) -> list[str]:
    return told[told.rindex("tasks: ") : told.rindex("finished:")].splitlines()
