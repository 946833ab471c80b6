"""A protocol: what an agent hears and says, as text, in both directions. All of them are ChatML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.protocols.parsing import Unparsable, without_stops, without_thinking
from tau2_exp.protocols.text import IM_END, IM_START, block, neutralise
from tau2_exp.types import GREETING, Message, Role, Schema, ToolCall

BARE_SYSTEM = "You are a customer service agent."


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed turn. Exactly one holds: there is a message, the agent is done, or `error` says what is wrong.

    Only `native` can be done with a last message.
    """

    message: Message | None = None
    done: bool = False
    error: str | None = None


def correction(why: str) -> Message:
    """The message to an agent after a turn that could not be parsed."""
    return Message(Role.TOOL, f"Error: {why}", requestor=Role.ASSISTANT, error=True)


class Protocol(ABC):
    """One format of conversation. Stateless: a conversation's state is its text."""

    stops: tuple[str, ...]  # special tokens that end a turn and are kept in it
    end: str  # the special token that `write` ends a turn with; empty where the turn's own text ends with one
    specials: tuple[str, ...]  # special tokens of a tokenizer that is trained for this format

    @abstractmethod
    def _instructions(self, document: str, schemas: list[Schema]) -> str: ...

    @abstractmethod
    def _results(self, results: Sequence[Message], calls: Sequence[ToolCall]) -> str: ...

    @abstractmethod
    def _parse(self, text: str) -> Parsed: ...

    @abstractmethod
    def write(self, message: Message | None, done: bool = False) -> str:
        """The text of an action, its stop included, so that `parse(write(message, done))` gives it back.

        What a format cannot say in one turn is left out: words beside tool calls (τ²-bench forbids them), and in
        `single_action` words beside done. Raises ValueError where nothing, or too many calls, would be left.
        """

    @property
    def borders(self) -> tuple[str, ...]:
        """The special tokens without which no tokenizer can open and end a turn; the others may be plain text."""
        turn = self.write(Message(Role.ASSISTANT, "Hello."))
        return tuple(dict.fromkeys([IM_START, IM_END, *(stop for stop in self.stops if turn.endswith(stop))]))

    def system(self, document: str, schemas: list[Schema] | None) -> str:
        """The whole system block; without schemas it names no tool and explains no format."""
        text = document.strip() if schemas is None else self._instructions(document.strip(), schemas)
        return block("system", text or BARE_SYSTEM)

    def observe(self, messages: Sequence[Message], said: str = "") -> str:
        """What the agent hears, ending where its next turn begins; `said` is the text of its turn before.

        A user's own tool calls with their results, and the greeting that every episode opens with, are not heard.
        Nothing that a user or a tool says can open or close a turn.
        """
        calls = self._calls(said)
        chunks, results = [], []
        for message in (*messages, None):
            if message is not None and not audible(message):
                continue
            if message is not None and message.role is Role.TOOL:
                results.append(message)
                continue
            if results:
                chunks.append(self._results(results, calls))
                results = []
            if message is None:
                break
            if message.role is Role.ASSISTANT:  # of a task's history
                chunks.append(self._history(message))
                calls = message.tool_calls
            else:
                chunks.append(block("user", neutralise(message.content or "")))
        return "".join(chunks) + f"{IM_START}assistant\n"

    def close(self, sampled: str) -> str:
        """What is appended to a sampled turn, however it ended, before anything else is heard."""
        return "\n" if sampled.endswith(IM_END) else f"{IM_END}\n"

    def parse(self, text: str) -> Parsed:
        """What the text does. Never raises; `error` is one short line for the agent to read."""
        try:
            return self._parse(without_thinking(without_stops(text)))
        except Unparsable as error:
            return Parsed(error=str(error))

    def _calls(self, text: str) -> Sequence[ToolCall]:
        message = self.parse(text).message
        return message.tool_calls if message else ()

    def _history(self, message: Message) -> str:
        text = self.write(message)
        return f"{IM_START}assistant\n{text}{self.close(text)}"


def audible(message: Message) -> bool:
    """Whether an agent hears a message: not a user's own tool calls with their results, nor the greeting."""
    if message.role is Role.TOOL:
        return message.requestor is not Role.USER
    return not (message.role is Role.USER and message.tool_calls) and message != GREETING
