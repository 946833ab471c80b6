"""What is trained on is, id for id, what was sampled: a real model, real tasks, from the generator to the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.learning.batch import rows_from_trajectory
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.types import Generation, Row, Sampling, Trajectory

SAMPLES = 3


@dataclass
class Recorder:
    """A generator that notes, for each session, what it was given and what it sampled."""

    generator: TorchGenerator
    said: dict[int, list[tuple[list[int], Generation]]] = field(default_factory=dict)

    def open(self, session: int) -> None:
        self.said[session] = []
        self.generator.open(session)

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        given = list(ids)
        generation = await self.generator.generate(session, ids, sampling, seed)
        self.said[session].append((given, generation))
        return generation

    def close(self, session: int) -> None:
        self.generator.close(session)


def play(run: Run, pupil: Run, temperature: float, learned: bool) -> tuple[CausalLM, Recorder, list[Trajectory]]:
    """Episodes as a stage samples them, written to the run's folder and read back."""
    context = StageContext(run)
    start = pupil.folder / pupil.results["model"]
    model = load_model(start, run.config.hardware)
    if not learned:
        model = new_model(model.shape, seed=7)
    recorder = Recorder(TorchGenerator(model, context.engine))
    sampling = Sampling(temperature, max_tokens=run.config.model.max_new_tokens)
    policy = context.token_policy(recorder, load_tokenizer(start), sampling)
    specs = context.specs(context.tasks("train"), SAMPLES, f"on policy {temperature}")
    asyncio.run(context.collect("samples", policy, specs))
    return model, recorder, list(run.trajectories("samples"))


@pytest.mark.parametrize(
    ("learned", "temperature"),
    [(True, 0.6), (True, 1.0), (True, 1.3), (False, 1.0)],
    ids="cool warm hot random".split(),
)
def test_rows_hold_what_was_sampled_id_for_id(make_run, pupil: Run, learned: bool, temperature: float) -> None:
    run = make_run("stage=grpo", "rollout.unparsable_limit=5", "model.max_new_tokens=48")
    model, recorder, trajectories = play(run, pupil, temperature, learned)
    assert len(trajectories) == SAMPLES * 2 and all(t.scored for t in trajectories)
    for trajectory in trajectories:
        turns = [t for t in recorder.said.values() if _ids(t) == _ids(_recorded(trajectory))]
        assert turns, "no session of the generator said this"
        row = rows_from_trajectory(trajectory, [0.5 + n for n in range(len(trajectory.turns))])
        _is_what_was_sampled(row, turns[0])
        _model_agrees(row, model, temperature)
        parsed_only = rows_from_trajectory(trajectory, [1.0] * len(trajectory.turns), unparsable=False)
        assert parsed_only.ids == row.ids
        _leaves_out_the_unparsable(parsed_only, trajectory, turns[0])
    errors = [turn.error is not None for t in trajectories for turn in t.turns]
    assert any(errors) or temperature < 1, "nothing unparsable: the test says less than it should"
    assert not all(errors) or not learned, "nothing parsable: the test says less than it should"


Turns = list[tuple[list[int], Generation]]


def _is_what_was_sampled(row: Row, turns: Turns) -> None:
    given, last = turns[-1]
    assert list(row.ids) == [*given, *last.ids]
    trained, log_probs, advantages = [False] * len(row.ids), [0.0] * len(row.ids), [0.0] * len(row.ids)
    for number, (context, generation) in enumerate(turns):
        assert list(row.ids[: len(context)]) == context, "the model saw another past than the row tells"
        for place, log_prob in enumerate(generation.log_probs, start=len(context)):
            trained[place], log_probs[place], advantages[place] = True, log_prob, 0.5 + number
    assert list(row.trained) == trained
    assert list(row.log_probs) == log_probs
    assert list(row.advantages) == advantages


def _model_agrees(row: Row, model: CausalLM, temperature: float) -> None:
    """One pass over the whole row gives every trained token the log-probability it was sampled with."""
    with torch.no_grad():
        ids = torch.tensor(row.ids)
        logits = model.logits(model.packed(ids, [len(row.ids)]))[:-1] / temperature
        found = logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
    mask = torch.tensor(row.trained[1:])
    torch.testing.assert_close(found[mask], torch.tensor(row.log_probs[1:])[mask], atol=1e-4, rtol=0)


def _leaves_out_the_unparsable(row: Row, trajectory: Trajectory, turns: Turns) -> None:
    for turn, (context, generation) in zip(trajectory.turns, turns, strict=True):
        span = row.trained[len(context) : len(context) + len(generation.ids)]
        assert set(span) == {turn.error is None}


def _recorded(trajectory: Trajectory) -> Turns:
    past: list[int] = []
    turns: Turns = []
    for turn in trajectory.turns:
        assert turn.tokens is not None
        past = [*past, *turn.tokens.context]
        turns.append((past, Generation(turn.tokens.sampled, turn.tokens.log_probs, "")))
        past = [*past, *turn.tokens.sampled]
    return turns


def _ids(turns: Turns) -> list[tuple[int, ...]]:
    return [(*context, *generation.ids) for context, generation in turns]
