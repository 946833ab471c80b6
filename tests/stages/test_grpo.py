"""GRPO's groups are of one task each, whatever is drawn."""

from __future__ import annotations

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
    assert run.metrics()[0].get("trained_tokens", 0) == learned, "each episode is trained on once"


def _trained(told):
    return [one.trajectory for group in told for one in group if one.credit and one.credit.signal]
