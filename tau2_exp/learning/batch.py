"""Conversations as token ids: live ones, demonstrations and published data become rows by the same path."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.config import ProtocolName
from tau2_exp.interfaces import Tokenizer
from tau2_exp.learning.sft_data import Conversation
from tau2_exp.protocols import Protocol, correction, make_protocol
from tau2_exp.protocols.parsing import Unparsable, split_thoughts
from tau2_exp.protocols.text import CALL, CALL_END
from tau2_exp.types import Message, Role, Row, Schema, Trajectory, Turn


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
