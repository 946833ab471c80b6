"""SFT: learn the protocol from demonstrations, or from a file of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tau2_exp.batch import (
    Conversation,
    read_sft_file,
    rows_from_demonstration,
    rows_from_messages,
    rows_from_trajectory,
)
from tau2_exp.config import ConfigError, SftConfig
from tau2_exp.rundir import Run
from tau2_exp.stages.demos import DEMOS
from tau2_exp.stages.fit import fit
from tau2_exp.stages.learner import Learner, new_tokenizer
from tau2_exp.stages.studio import Studio
from tau2_exp.types import Row, Tokenizer, Trajectory, Turn

Example = Trajectory | Conversation


async def sft(run: Run) -> None:
    studio, stage = Studio(run), run.config.stage
    assert isinstance(stage, SftConfig)
    examples = _examples(run, stage)
    learner = Learner(
        studio, lambda: new_tokenizer(studio, lambda letters: (_row(studio, letters, e) for e in examples))
    )
    rows = [_row(studio, learner.tokenizer, example) for example in examples]
    context = run.config.model.context
    short = [row for row in rows if len(row.ids) <= context]
    if not short:
        shortest = min(len(row.ids) for row in rows)
        raise ConfigError(f"model.context={context}: even the shortest conversation has {shortest} tokens; raise it")
    if len(short) < len(rows):
        print(f"sft: left out {len(rows) - len(short)} conversations longer than model.context={context}")
    fit(learner, short, stage)
    tokens = sum(len(row.ids) for row in short)
    print(f"sft: {len(short)} conversations, {tokens} tokens, vocabulary {learner.model.shape.vocab_size}")
    run.finish({"conversations": len(short), "tokens": tokens, "steps": learner.step, "model": learner.path})


def _examples(run: Run, stage: SftConfig) -> Sequence[Example]:
    """The file's conversations, else the parent's trajectories that solved their tasks."""
    if stage.data:
        try:
            return read_sft_file(Path(stage.data))
        except (ValueError, OSError) as error:
            raise ConfigError(f"stage.data: {error}") from None
    if run.parent is None:
        raise ConfigError("stage=sft: has nothing to learn from; give parent=RUN of demonstrations or stage.data=FILE")
    solved = [t for t in run.parent.read_trajectories(DEMOS) if t.scored and t.outcome >= 1.0]
    if not solved:
        raise ConfigError(f"{run.parent.folder}: none of its demonstrations solved its task; nothing to learn from")
    return solved


def _row(studio: Studio, tokenizer: Tokenizer, example: Example) -> Row:
    if not isinstance(example, Trajectory):
        return rows_from_messages(example, studio.protocol, tokenizer)
    if example.turns and all(_sampled_with(tokenizer, turn) for turn in example.turns):
        return rows_from_trajectory(example, [1.0] * len(example.turns), unparsable=False)
    return rows_from_demonstration(example, studio.protocol, tokenizer, *studio.prompts[example.domain])


def _sampled_with(tokenizer: Tokenizer, turn: Turn) -> bool:
    """Whether the turn's token ids are this tokenizer's: a file may hold what another model sampled."""
    return turn.tokens is not None and tokenizer.decode(turn.tokens.sampled) == turn.text
