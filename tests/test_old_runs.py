"""Runs that were made before the code moved into its rooms (at commit 8f1291e) are reported, resumed and evaluated.

runs-of-8f1291e.tar.xz holds `experiment=smoke` with a smaller model on two tasks, without the optimiser's state, and
`half`: a GRPO of four steps on top of it, killed after the third, whose last checkpoint is of the second.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from flows import ROOT, lines, read

from tau2_exp import api
from tau2_exp.evaluation.plan import GREEDY, read_plan
from tau2_exp.jsonl import read_jsonl

ARCHIVE = Path(__file__).with_name("data") / "runs-of-8f1291e.tar.xz"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_they_are_reported(outputs: Path) -> None:
    told = api.report(outputs)
    scores = [line.split() for line in told.splitlines() if line.split()[:1] in (["sft"], ["rft"], ["grpo"])]
    pipeline = api.load_run(outputs / "smoke")
    assert len(pipeline.members) == 7 and all(member.status is api.RunStatus.finished for member in pipeline.members)
    assert {row[0] for row in scores} == {"sft", "rft", "grpo"}
    for evaluation in (member for member in pipeline.members if member.stage == "eval"):
        for result in evaluation.results["splits"].values():
            value = f"{result['measures']['pass@1']['value']:.2f}"
            assert any(row[0] == evaluation.parent.stage and value in row for row in scores)
    assert "unfinished: grpo" in told, "the one that was killed"


def test_their_episodes_are_judged_as_they_were(outputs: Path) -> None:
    evaluation = api.load_run(outputs / "smoke-grpo-eval")
    assert [again.differences for again in api.replay(evaluation.trajectories())] == [[]] * 12


def test_a_killed_one_is_resumed(outputs: Path) -> None:
    half = outputs / "half"
    metrics, rollouts = list(read_jsonl(half / "metrics.jsonl")), half / "trajectories/rollouts.jsonl"
    kept = rollouts.read_bytes().splitlines()[:24]
    command = [sys.executable, "run.py", f"resume={half}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grpo: resuming after step 2 of 4" in done.stdout
    run = api.load_run(half)
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4] and run.metrics()[:2] == metrics[:2]
    assert rollouts.read_bytes().splitlines()[:24] == kept and lines(rollouts) == run.results["episodes"] == 48
    assert run.checkpoint and (run.checkpoint / "model.safetensors").is_file()
    assert [parent.stage for parent in run.parents] == ["rft", "sft", "demos"]


def test_a_finished_one_is_evaluated(outputs: Path) -> None:
    pipeline = api.load_run(outputs / "smoke")
    before = pipeline.members[-1]
    settings = ["domain.limit=2", "stage.samples_per_prompt=1", "name=today"]
    today = api.evaluate(pipeline, settings)
    assert today.folder == outputs / "today" and read(today.folder / "manifest.json")["parent"] == "../smoke-grpo"
    for name, places in read_plan(today.folder).files.items():
        if name.endswith(GREEDY):
            assert places == read_plan(before.folder).files[name], "the same users, tasks and seeds"
        played = {(t.key, t.sample, t.seed) for t in today.trajectories(name)}
        assert played == {(place.task, place.sample, place.seed) for place in places}
    solved = {t.key: t.outcome for t in before.trajectories("train-greedy")}
    assert solved and solved == {t.key: t.outcome for t in today.trajectories("train-greedy")}
