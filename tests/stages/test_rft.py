"""RFT trains on what it kept, and says what to change where it kept nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

import pytest
from dialogues import make_trajectory

from tau2_exp.config import ConfigError, RewardConfig, RewardKind, RftConfig
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.fit import fit
from tau2_exp.stages.learner import Learner
from tau2_exp.stages.samples import SAMPLES, draw_samples, kept_samples
from tau2_exp.types import Fault, FaultSource, Parts, Row, Sampling, StopReason, Turn

NATURAL = StopReason.AGENT_STOP
SHORT = ("stage=rft", "stage.samples_per_prompt=2", "domain.max_steps=6")  # too few for any task


def test_where_nothing_is_kept_it_says_what_to_change(make_run, pupil: Run) -> None:
    run = make_run(*SHORT, parent=pupil)
    with pytest.raises(ConfigError) as caught:
        run_stage(run)
    message = str(caught.value)
    assert "\n" not in message and "keeps none of 4 samples (best reward 0" in message
    for knob in ("epochs", "samples_per_prompt", "keep_partial"):
        assert knob in message
    assert len(list(run.trajectories("samples"))) == 4, "they are kept for whoever wants to know why"


@pytest.mark.parametrize("kind", RewardKind)
def test_what_is_kept_is_the_same_whatever_grpo_will_reward(kind: RewardKind) -> None:
    """An episode that was cut short has no partial score, so that sweeps over rewards share their RFT."""
    done = Turn("fixed", parts=Parts(action=0.9), messages=())
    cut, ended = (make_trajectory(done, task=stop.value, stop=stop) for stop in (StopReason.MAX_STEPS, NATURAL))
    kept = kept_samples([cut, ended], RftConfig(keep_partial=0.6), RewardConfig(kind=kind))
    assert kept == [ended]


def test_it_trains_on_what_it_kept(make_run, pupil: Run) -> None:
    run = make_run(*SHORT, "stage.keep_partial=0", "stage.epochs=3", "stage.batch_size=1", parent=pupil)
    run_stage(run)
    assert run.results["samples"] == 4 and run.results["kept"] == run.results["tasks"] == 2
    assert [record["step"] for record in run.metrics()] == list(range(1, 7))


def test_a_run_that_is_trained_already_takes_its_samples_as_they_are(make_run, pupil: Run) -> None:
    """A faulted one that is run again would be another row, and the saved step a place in another order."""
    run = make_run(*SHORT, parent=pupil)
    context = StageContext(run)
    with run.write_trajectories(SAMPLES) as lines:
        for spec in context.specs(context.tasks("train"), 2, SAMPLES):
            fault = Fault(FaultSource.USER, "timeout") if spec.index == 1 else None
            lines.write(replace(make_trajectory(task=spec.task.id, fault=fault), sample=spec.sample, domain="telecom"))

    def nobody(_: Sampling) -> NoReturn:
        raise AssertionError("nothing is played")

    samples = asyncio.run(draw_samples(context, nobody, again=False))
    assert [t.scored for t in samples] == [True, False, True, True]


def test_conversations_without_a_turn_to_learn_from_are_left_out(make_run, pupil: Run, capsys) -> None:
    heard = Row(ids=(1, 2, 3), trained=(False,) * 3, log_probs=(0.0,) * 3, advantages=(0.0,) * 3)
    told = replace(heard, trained=(False, True, True))
    run = make_run("stage=rft", "stage.epochs=2", "stage.batch_size=1", parent=pupil)
    learner = Learner(StageContext(run))
    fit(learner, [heard, told, heard, told], run.config.stage)
    assert learner.step == 4 and "left out 2 of 4 conversations" in capsys.readouterr().out


def test_conversations_without_a_turn_to_learn_from_are_refused(make_run, pupil: Run) -> None:
    heard = Row(ids=(1, 2, 3), trained=(False,) * 3, log_probs=(0.0,) * 3, advantages=(0.0,) * 3)
    run = make_run("stage=rft", parent=pupil)
    with pytest.raises(ConfigError, match="rft: none of 2 conversations holds a turn to learn from"):
        fit(Learner(StageContext(run)), [heard, heard], run.config.stage)
