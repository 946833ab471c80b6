"""Conversations as token ids: live ones, demonstrations and published data become rows by the same path."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tau2_exp import codec
from tau2_exp.config import ProtocolName
from tau2_exp.interfaces import Tokenizer
from tau2_exp.learning.left_out import MESSAGES, left_out
from tau2_exp.protocols import Protocol, correction, make_protocol
from tau2_exp.protocols.parsing import Unparsable, check_message, read_call, split_thoughts, valid_unicode
from tau2_exp.protocols.text import CALL, CALL_END
from tau2_exp.types import Message, Reward, Role, Row, Schema, ToolCall, Trajectory, Turn, stable_seed

Conversation = tuple[Message, ...]  # a published dialogue, its system message first
_REPORTED = 20  # bad lines named at once


class Transcript:
    """One conversation's tokens as they grow. Each text is tokenised once; what was sampled is never re-made."""

    def __init__(self, protocol: Protocol, tokenizer: Tokenizer):
        self.protocol, self.tokenizer = protocol, tokenizer
        self._said: str | None = None

    def start(self, document: str, schemas: list[Schema] | None) -> list[int]:
        """The ids of the system block."""
        return self.tokenizer.encode(self.protocol.system(document, schemas))

    def hear(self, messages: Sequence[Message]) -> list[int]:
        """The ids to append before the next turn: the last one's closing, what is heard, the next one's opening."""
        closing = "" if self._said is None else self.protocol.close(self._said)
        return self.tokenizer.encode(closing + self.protocol.observe(messages, self._said or ""))

    def say(self, ids: Sequence[int]) -> None:
        """Note the ids of a turn as it was sampled."""
        self._said = self.tokenizer.decode(ids)


# ---------------------------------------------------------------- rows


class _RowBuilder:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.trained: list[bool] = []
        self.log_probs: list[float] = []
        self.advantages: list[float] = []

    def context(self, ids: Sequence[int]) -> None:
        self._append(ids, False, [0.0] * len(ids), 0.0)

    def sampled(self, ids: Sequence[int], log_probs: Sequence[float], advantage: float) -> None:
        self._append(ids, True, log_probs, advantage)

    def _append(self, ids: Sequence[int], trained: bool, log_probs: Sequence[float], advantage: float) -> None:
        self.ids.extend(ids)
        self.trained.extend([trained] * len(ids))
        self.log_probs.extend(log_probs)
        self.advantages.extend([advantage] * len(ids))

    def row(self) -> Row:
        return Row(tuple(self.ids), tuple(self.trained), tuple(self.log_probs), tuple(self.advantages))


def rows_from_trajectory(trajectory: Trajectory, advantages: Sequence[float], unparsable: bool = True) -> Row:
    """The row of a sampled trajectory, from its token record alone.

    `advantages` has one number a turn. Without `unparsable` (rejection sampling) turns that could not be
    parsed are context only, as those before a continuation's own always are: they are trained on in its trunk's row.
    Raises ValueError where a turn has no token record.
    """
    builder = _RowBuilder()
    for number, (turn, advantage) in enumerate(zip(trajectory.turns, advantages, strict=True)):
        span = turn.tokens
        if span is None:
            raise ValueError(f"{trajectory.key}: turn {number} has no token record")
        builder.context(span.context)
        if number < trajectory.first_turn or (turn.error is not None and not unparsable):
            builder.context(span.sampled)
        else:
            builder.sampled(span.sampled, span.log_probs, advantage)
    return builder.row()


def is_recorded_alike(
    trajectory: Trajectory,
    protocol: Protocol,
    tokenizer: Tokenizer,
    document: str,
    schemas: list[Schema] | None,
) -> bool:
    """Whether the token record is what this protocol, prompt and tokenizer make of the episode, context for context.

    A file may hold what another model sampled, or this one under another prompt.
    """
    transcript = Transcript(protocol, tokenizer)
    context = transcript.start(document, schemas)
    heard: Sequence[Message] = trajectory.opening
    for turn in trajectory.turns:
        context += transcript.hear(heard)
        span = turn.tokens
        if span is None or list(span.context) != context or tokenizer.decode(span.sampled) != turn.text:
            return False
        transcript.say(span.sampled)
        context, heard = [], _heard_after(turn)
    return bool(trajectory.turns)


def rows_from_demonstration(
    trajectory: Trajectory,
    protocol: Protocol,
    tokenizer: Tokenizer,
    document: str,
    schemas: list[Schema] | None,
) -> Row:
    """The row of a trajectory that is text only (an oracle's, an API model's): advantage 1, no log-probabilities.

    Its ids are those that a live policy with this protocol and tokenizer would have seen and said. Raises
    ValueError where the protocol cannot say what was done.
    """
    transcript, builder = Transcript(protocol, tokenizer), _RowBuilder()
    builder.context(transcript.start(document, schemas))
    heard: Sequence[Message] = trajectory.opening
    for turn in trajectory.turns:
        builder.context(transcript.hear(heard))
        ids = tokenizer.encode(_written(turn, protocol))
        transcript.say(ids)
        if turn.error is None:
            builder.sampled(ids, [0.0] * len(ids), 1.0)
        else:
            builder.context(ids)
        heard = _heard_after(turn)
    return builder.row()


def rows_from_messages(messages: Conversation, protocol: Protocol, tokenizer: Tokenizer) -> Row:
    """The row of a published dialogue: every assistant message is trained on, with advantage 1.

    Assistant words that are in the format of the protocol already are kept as they are; those in the
    reference's format, and plain words, are written in the protocol's.
    """
    transcript, builder = Transcript(protocol, tokenizer), _RowBuilder()
    if messages and messages[0].role is Role.SYSTEM:
        builder.context(transcript.start(messages[0].content or "", None))
        messages = messages[1:]
    heard: list[Message] = []
    for message in messages:
        if message.role is not Role.ASSISTANT:
            heard.append(message)
            continue
        builder.context(transcript.hear(heard))
        ids = tokenizer.encode(_spoken(message, protocol))
        transcript.say(ids)
        builder.sampled(ids, [0.0] * len(ids), 1.0)
        heard = []
    return builder.row()


def _written(turn: Turn, protocol: Protocol) -> str:
    if turn.error is not None:
        return turn.text
    acted = turn.messages and turn.messages[0].role is Role.ASSISTANT
    return protocol.write(turn.messages[0] if acted else None, turn.done)


def _heard_after(turn: Turn) -> Sequence[Message]:
    return [correction(turn.error)] if turn.error is not None else turn.messages[1:]


def _spoken(message: Message, protocol: Protocol) -> str:
    """Raises Unparsable for a tool call or thoughts that no format can read. Thoughts are never said to the user."""
    if message.tool_calls:
        return protocol.write(message)
    text = message.content or ""
    reference = make_protocol(ProtocolName.single_action)
    if isinstance(protocol, type(reference)) and reference.parse(text).error is None:
        return text[: text.rindex(CALL_END) + len(CALL_END)] + protocol.end
    for format_ in (reference, protocol):
        parsed = format_.parse(text)
        if parsed.error is None:
            return protocol.write(parsed.message, parsed.done)
    if CALL in text:
        raise Unparsable(f"an assistant message: {parsed.error}")
    words = split_thoughts(text)[1].strip()
    if not words:
        raise Unparsable("an assistant message holds thoughts alone")
    return protocol.write(Message(Role.ASSISTANT, words if words != text.strip() else text))


# ---------------------------------------------------------------- files of SFT data


def read_sft_file(path: Path, lost: Counter[str] | None = None) -> list[tuple[int, Trajectory | Conversation]]:
    """Trajectories and `{"prompt": messages}` records, one a line, each with the number of its line.

    `messages` is another name for `prompt`. `lost` counts what of the lines is left out. Raises ValueError with file,
    line and reason of the bad lines, all of which were looked at.
    """
    records: list[tuple[int, Trajectory | Conversation]] = []
    problems = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, _record(line, Counter() if lost is None else lost)))
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        more = [f"and {len(problems) - _REPORTED} more bad lines"] if len(problems) > _REPORTED else []
        raise ValueError("\n".join(problems[:_REPORTED] + more))
    if not records:
        raise ValueError(f"{path}: holds no conversation")
    return records


def _record(line: bytes, lost: Counter[str]) -> Trajectory | Conversation:
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {type(data).__name__}")
    keys = [key for key in MESSAGES if key in data]
    if len(keys) > 1:
        raise ValueError("prompt and messages: two names for one thing; keep one of them")
    lost.update(left_out(data))
    if keys:
        return messages_from_prompt(data[keys[0]])
    if not {"task", "turns"} & data.keys():
        raise ValueError("no `prompt` and no `messages`, one of which holds a list of messages, and no trajectory")
    return _trajectory(data)


def _trajectory(data: dict[str, Any]) -> Trajectory:
    trajectory = codec.decode(Trajectory, data)
    for message in trajectory.messages:
        check_message(message)
    for turn in trajectory.turns:
        valid_unicode(turn.text)
    return trajectory


def messages_from_prompt(prompt: Any) -> Conversation:
    """Messages as published datasets hold them (`role`, `content`, OpenAI `tool_calls`). Raises ValueError."""
    if not isinstance(prompt, list):
        raise ValueError(f"prompt: expected a list of messages, got {type(prompt).__name__}")
    messages = tuple(_checked(item, f"prompt[{i}]", first=i == 0) for i, item in enumerate(prompt))
    if all(message.role is not Role.ASSISTANT for message in messages):
        raise ValueError("prompt: no assistant message to learn from")
    return messages


def _checked(item: Any, where: str, first: bool) -> Message:
    message = _message(item, where, first)
    try:
        check_message(message)
        if message.role is Role.ASSISTANT:
            split_thoughts(message.content or "")
    except Unparsable as error:
        raise ValueError(f"{where}: {error}") from None
    return message


def _message(item: Any, where: str, first: bool) -> Message:
    if not isinstance(item, dict):
        raise ValueError(f"{where}: expected an object, got {type(item).__name__}")
    role, content = item.get("role"), item.get("content")
    if role not in [r.value for r in Role]:
        raise ValueError(f"{where}.role: {role!r} is not one of {', '.join(r.value for r in Role)}")
    if role == Role.SYSTEM and not first:
        raise ValueError(f"{where}.role: a system message can only come first")
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{where}.content: expected a string, got {type(content).__name__}")
    made = item.get("tool_calls") or []
    if not isinstance(made, list):
        raise ValueError(f"{where}.tool_calls: expected a list, got {type(made).__name__}")
    calls = tuple(_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(made))
    if role != Role.TOOL and not calls and (content is None or not content.strip()):
        raise ValueError(f"{where}.content: missing or empty")
    requestor = Role.ASSISTANT if role == Role.TOOL else None
    return Message(Role(role), content, calls, requestor)


def _tool_call(item: Any, where: str) -> ToolCall:
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where}: expected a function with a name")
    try:
        return read_call(function["name"], function.get("arguments"))
    except Unparsable as error:
        raise ValueError(f"{where}: {error}") from None


# ---------------------------------------------------------------- selection and order


def select_rft(
    groups: Mapping[str, Sequence[Trajectory]],
    keep_reward: float,
    keep_partial: float,
    score: Callable[[Trajectory], Reward],
) -> list[Trajectory]:
    """Rejection sampling: of each task every trajectory with at least `keep_reward` as its outcome.

    Of a task with none, the one with the best partial score (the first of equals) if that is at least `keep_partial`.
    Faulted episodes are never kept.
    """
    kept: list[Trajectory] = []
    for trajectories in groups.values():
        candidates = [t for t in trajectories if t.scored and t.turns]
        solved = [t for t in candidates if t.outcome >= keep_reward]
        best = max(candidates, key=lambda t: score(t).partial, default=None)
        if not solved and best is not None and score(best).partial >= keep_partial:
            solved = [best]
        kept.extend(solved)
    return kept


def epochs(n_rows: int, batch_size: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of one epoch as row indices, the last one maybe smaller.

    They follow from the arguments alone, so (epoch, batch number) is the whole position to save.
    """
    order = list(range(n_rows))
    random.Random(stable_seed(seed, "epoch", epoch)).shuffle(order)
    return [tuple(order[i : i + batch_size]) for i in range(0, n_rows, batch_size)]
