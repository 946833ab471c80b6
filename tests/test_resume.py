"""A pipeline killed again and again, and gone on with by the same command, ends as one that was left alone."""

from __future__ import annotations

from pathlib import Path

from flows import find, kill_when, lines, outcome, read, run_py, unlike

NAME = "study"
COMMAND = (
    f"name={NAME}",
    "domain.limit=3",
    "stage.evaluate=false",
    "model.layers=1",
    "rollout.concurrency=2",  # blocks of four episodes, so that sampling has several
    "stage.sft.epochs=30",
    "stage.sft.batch_size=1",
    "stage.sft.lr=3e-3",
    "stage.rft.samples_per_prompt=4",
    "stage.rft.temperature=0.7",
    "stage.rft.keep_partial=0",
    "stage.rft.epochs=8",
    "stage.rft.batch_size=1",
    "stage.rft.save_every=3",
    "stage.grpo.steps=4",
    "stage.grpo.prompts_per_step=2",
    "stage.grpo.samples_per_prompt=3",
    "stage.grpo.refill=1",
    "stage.grpo.save_every=2",
    "reward.unparsable_penalty=0.1",  # so that groups differ even where no task is solved
)
MOMENTS = (  # a file of a run, and how many lines of it there are when the kill comes
    ("rft/trajectories/samples.jsonl", 6),
    ("rft/metrics.jsonl", 4),
    ("grpo/metrics.jsonl", 3),
)


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    left_alone, killed = tmp_path / "left_alone", tmp_path / "killed"
    done = run_py(*COMMAND, outputs=left_alone)
    assert done.returncode == 0, done.stderr

    for file, count in MOMENTS:
        path = killed / f"{NAME}-{file}"
        kill_when(lambda path=path, count=count: lines(path) >= count, *COMMAND, outputs=killed)
        folder = killed / f"{NAME}-{file.partition('/')[0]}"
        assert not (folder / "results.json").exists(), f"{file} was finished before the kill"

    resumed = run_py(*COMMAND, outputs=killed)
    assert resumed.returncode == 0, resumed.stderr
    runs = sorted(path.name for path in left_alone.iterdir())
    assert sorted(path.name for path in killed.iterdir() if not path.name.startswith(".")) == runs
    differences = {name: unlike(left_alone / name, killed / name) for name in runs}
    assert not any(differences.values()), differences
    _did_something(left_alone)
    for name in runs:
        first, second = (read(outputs / name / "manifest.json") for outputs in (left_alone, killed))
        assert first["address"] == second["address"]


def _did_something(outputs: Path) -> None:
    """What would make the comparison an empty one: nothing kept, no gradient, nothing read from a file."""
    (grpo,), (rft,) = find(outputs, "grpo"), find(outputs, "rft")
    found = outcome(grpo)
    assert any(step.get("grad_norm", 0) > 0 for step in found["metrics.jsonl"])
    assert len({step["outcome"] for step in found["metrics.jsonl"]} | {s["shaped"] for s in found["metrics.jsonl"]}) > 2
    assert lines(grpo / "trajectories" / "rollouts.jsonl") == found["results"]["episodes"]
    assert read(rft / "results.json")["kept"] > 0
    assert found["checkpoints/last/model.safetensors"] != outcome(rft)["checkpoints/last/model.safetensors"]
