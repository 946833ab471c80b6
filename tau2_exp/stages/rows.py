"""What SFT learns from, as rows: the same for every engine and tokenizer."""

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
from tau2_exp.scenery import Scenery
from tau2_exp.stages.demos import DEMOS
from tau2_exp.types import Row, Tokenizer, Trajectory, Turn

Example = Trajectory | Conversation


def sft_examples(run: Run) -> Sequence[Example]:
    """The file's conversations, else the parent's trajectories that solved their tasks. Raises ConfigError."""
    stage = run.config.stage
    assert isinstance(stage, SftConfig)
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


def sft_rows(scenery: Scenery, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Row]:
    """The rows that the model's context has room for. Raises ConfigError where there are none."""
    rows = [sft_row(scenery, tokenizer, example) for example in examples]
    context = scenery.config.model.context
    short = [row for row in rows if len(row.ids) <= context]
    if not short:
        shortest = min(len(row.ids) for row in rows)
        raise ConfigError(f"model.context={context}: even the shortest conversation has {shortest} tokens; raise it")
    if len(short) < len(rows):
        print(f"sft: left out {len(rows) - len(short)} conversations longer than model.context={context}")
    return short


def sft_row(scenery: Scenery, tokenizer: Tokenizer, example: Example) -> Row:
    if not isinstance(example, Trajectory):
        return rows_from_messages(example, scenery.protocol, tokenizer)
    if example.turns and all(_sampled_with(tokenizer, turn) for turn in example.turns):
        return rows_from_trajectory(example, [1.0] * len(example.turns), unparsable=False)
    return rows_from_demonstration(example, scenery.protocol, tokenizer, *scenery.prompts[example.domain])


def sft_summary(rows: Sequence[Row]) -> dict[str, int]:
    """What a run's results say of its rows."""
    return {"conversations": len(rows), "tokens": sum(len(row.ids) for row in rows)}


def _sampled_with(tokenizer: Tokenizer, turn: Turn) -> bool:
    """Whether the turn's token ids are this tokenizer's: a file may hold what another model sampled."""
    return turn.tokens is not None and tokenizer.decode(turn.tokens.sampled) == turn.text
