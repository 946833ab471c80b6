"""The rows that SFT learns from: the same for every engine and tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tau2_exp.config import ConfigError, ProtocolName, SftConfig
from tau2_exp.interfaces import Tokenizer
from tau2_exp.learning.batch import (
    is_recorded_alike,
    rows_from_demonstration,
    rows_from_messages,
    rows_from_trajectory,
)
from tau2_exp.learning.sft_data import Conversation, read_sft_file
from tau2_exp.rollouts.setting import RolloutSetting
from tau2_exp.runs.run import Run
from tau2_exp.stages.demos import DEMOS
from tau2_exp.types import SOLVED, Message, Role, Row, Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from, and a description of where it was found."""

    where: str
    content: Trajectory | Conversation


def sft_examples(run: Run) -> Sequence[Example]:
    """The file's conversations, else the parent's trajectories that solved their tasks. Raises ConfigError."""
    stage = run.config.stage
    assert isinstance(stage, SftConfig)
    examples = _of_file(Path(stage.data)) if stage.data else _of_parent(run.parent)
    for example in examples:
        _check_domain(example, run.config.domain.names)
    _check_protocol(examples, run.config.model.protocol)
    return examples


def _of_file(path: Path) -> list[Example]:
    lost: Counter[str] = Counter()
    try:
        examples = [Example(f"stage.data: {path}:{number}", content) for number, content in read_sft_file(path, lost)]
    except (ValueError, OSError) as error:
        raise ConfigError(f"stage.data: {error}") from None
    if lost:
        told = ", ".join(f"{what} ({count})" for what, count in lost.items())
        print(f"sft: left out of the {len(examples)} lines of {path}: {told}", flush=True)
    return examples


def _of_parent(parent: Run | None) -> list[Example]:
    if parent is None:
        raise ConfigError("stage=sft: has no training data; give parent=RUN of demonstrations or stage.data=FILE")
    solved = [t for t in parent.trajectories(DEMOS) if t.scored and t.outcome >= SOLVED]
    if not solved:
        raise ConfigError(f"{parent.folder}: none of its demonstrations solved its task; nothing to learn from")
    return [Example(f"{parent.folder}: {t.key}", t) for t in solved]


def _check_domain(example: Example, names: Sequence[str]) -> None:
    """A prompt brings its own policy document; a trajectory is shown that of its domain."""
    content = example.content
    if isinstance(content, Trajectory) and content.domain not in names:
        valid = f"use domain={content.domain}, or domain.names=[{','.join([*names, content.domain])}]"
        raise ConfigError(f"{example.where}: is of {content.domain}, not of domain.names=[{','.join(names)}]; {valid}")


def _check_protocol(examples: Sequence[Example], protocol: ProtocolName) -> None:
    """All conversations that the protocol cannot say are named at once, before a model is loaded."""
    if protocol is not ProtocolName.single_action:
        return
    several = [example.where for example in examples if any(len(m.tool_calls) > 1 for m in _said(example.content))]
    if several:
        head = several[0].rpartition(":")[0]
        places = f"{head}:{', '.join(where.removeprefix(f'{head}:') for where in several)}"
        raise ConfigError(
            f"{places}: several tool calls in one turn ({len(several)} of {len(examples)} conversations), which "
            f"model.protocol={protocol.value} cannot say; use model.protocol={ProtocolName.native.value}"
        )


def _said(content: Trajectory | Conversation) -> Sequence[Message]:
    """What the agent said and did, so that it is written in the protocol."""
    if not isinstance(content, Trajectory):
        return [message for message in content if message.role is Role.ASSISTANT]
    return [turn.messages[0] for turn in content.turns if turn.error is None and turn.messages]


def sft_rows(setting: RolloutSetting, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Row]:
    """The rows that fit into the model's context. Raises ConfigError where there are none."""
    found = [_written(setting, tokenizer, example) for example in examples]
    rows, kept = [row for row, _ in found], sum(recorded for _, recorded in found)
    sampled = sum(_was_sampled(example.content) for example in examples)
    if kept < sampled:
        print(
            f"sft: {sampled - kept} of {sampled} recorded conversations were written anew from their messages: they "
            "were sampled with another protocol, prompt or tokenizer"
        )
    context = setting.config.model.context
    short = [row for row in rows if len(row.ids) <= context]
    if not short:
        shortest = min(len(row.ids) for row in rows)
        raise ConfigError(f"model.context={context}: even the shortest conversation has {shortest} tokens; raise it")
    if len(short) < len(rows):
        print(f"sft: left out {len(rows) - len(short)} conversations longer than model.context={context}")
    return short


def sft_row(setting: RolloutSetting, tokenizer: Tokenizer, example: Example) -> Row:
    """A conversation as a row. Raises ConfigError where the protocol cannot write what was done."""
    return _written(setting, tokenizer, example)[0]


def _written(setting: RolloutSetting, tokenizer: Tokenizer, example: Example) -> tuple[Row, bool]:
    """The row, and whether it is made of recorded tokens. Raises ConfigError as `sft_row` does."""
    try:
        return _row(setting, tokenizer, example.content)
    except ValueError as error:
        raise ConfigError(f"{example.where}: {error}") from None


def _row(setting: RolloutSetting, tokenizer: Tokenizer, content: Trajectory | Conversation) -> tuple[Row, bool]:
    if not isinstance(content, Trajectory):
        return rows_from_messages(content, setting.protocol, tokenizer), False
    prompt = setting.prompts[content.domain]
    if _was_sampled(content) and is_recorded_alike(content, setting.protocol, tokenizer, *prompt):
        return rows_from_trajectory(content, [1.0] * len(content.turns), unparsable=False), True
    return rows_from_demonstration(content, setting.protocol, tokenizer, *prompt), False


def _was_sampled(content: Trajectory | Conversation) -> bool:
    return isinstance(content, Trajectory) and any(turn.tokens for turn in content.turns)


def sft_summary(rows: Sequence[Row]) -> dict[str, int]:
    """The counts of rows in a run's results."""
    return {"conversations": len(rows), "tokens": sum(len(row.ids) for row in rows)}
