"""GRPO's groups are of one task each, whatever is drawn."""

from __future__ import annotations

import pytest
import torch
from flows import unlike
from safetensors.torch import load_file

from tau2_exp.report.viewer_episode import read_told
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage


def test_a_task_that_is_drawn_twice_in_a_step_makes_two_groups_of_new_episodes(make_run, pupil: Run) -> None:
    settings = ("stage.steps=1", "stage.prompts_per_step=5", "stage.samples_per_prompt=2", "stage.refill=0")
    run = make_run("stage=grpo", *settings, parent=pupil)
    run_stage(run)
    played = list(run.trajectories("rollouts"))
    assert len({t.key for t in played}) == 2 and len({t.seed for t in played}) == len(played) == 10
    told = list(read_told(run, run.folder / "trajectories/rollouts.jsonl"))
    assert [len(group) for group in told if group] == [2] * 5
    learned = sum(len(turn.tokens.sampled) for one in _trained(told) for turn in one.turns if turn.tokens)
    metrics = run.metrics()[0]
    assert metrics.get("trained_tokens", 0) == learned, "each episode is trained on once"
    sampled = metrics["sampled_tokens_per_second"] * metrics["rollout_seconds"]
    assert sampled == pytest.approx(metrics["sampled_tokens"]) and metrics["sampled_tokens"] > 0


def test_a_run_that_learns_nothing_says_so(make_run, pupil: Run, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("stage.steps=1", "stage.prompts_per_step=2", "stage.samples_per_prompt=2", "stage.refill=0")
    run_stage(make_run("stage=grpo", *few, "reward=outcome", "domain.max_steps=2", parent=pupil))
    assert "grpo: in 1 of 1 steps no group had a signal" in capsys.readouterr().out


def _trained(told):
    return [one.trajectory for group in told for one in group if one.credit and one.credit.signal]


def same_weights(one: Run, other: Run) -> bool:
    a, b = (load_file(run.folder / run.results["model"] / "model.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


OWN = (
    "stage=grpo",
    "stage.steps=3",
    "stage.prompts_per_step=null",
    "stage.sampled_tokens=1500",
    "stage.samples_per_prompt=4",
    "reward=custom",
    "reward.function=brought:score",
    "reward.credit=brought:by_turn",
    "reward.unparsable_penalty=0.1",
    "curriculum=custom",
    "curriculum.function=brought:Rotating",
)


def test_a_run_with_parts_of_ones_own_goes_on_where_it_was(
    make_run, pupil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its second step and gone on with, it ends as one that was left alone; so does its curriculum."""
    curve = ("stage.eval.every=2", "stage.eval.split=train", "stage.eval.tasks=2")
    whole, cut, plain = (make_run(*OWN, *more, parent=pupil) for more in (curve, curve, ()))
    run_stage(whole)
    run_stage(plain)
    assert same_weights(whole, plain), "evaluations change nothing of what is trained"
    assert [(r["step"], r["sampled_tokens"] > 0) for r in whole.metrics() if "eval/outcome" in r] == [
        (0, False),
        (2, True),
        (3, True),
    ]
    tell = Run.log

    def log(run: Run, metrics: dict, step: int) -> None:
        tell(run, metrics, step)
        if step == 2:
            run.stop()  # it saves at the end of the step

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log)
        with pytest.raises(KeyboardInterrupt):
            run_stage(cut)
        cut.close()
    assert [record["step"] for record in cut.metrics()] == [0, 1, 2]
    run_stage(Run.open(cut.folder))
    assert not unlike(whole.folder, cut.folder)
    assert {p.key for p in whole.manifest.plugins} == {"reward.function", "reward.credit", "curriculum.function"}
    credited = [
        c for group in read_told(whole, whole.folder / "trajectories/rollouts.jsonl") for c in group if c.credit
    ]
    assert any(len(set(one.credit.advantages)) > 1 for one in credited if one.credit), "the page shows that credit"
