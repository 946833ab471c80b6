"""Qwen3's own chat template: words, or one or more tool calls; `###STOP###` in the words ends the episode."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.protocols.base import BARE_SYSTEM, Parsed, Protocol
from tau2_exp.protocols.parsing import Unparsable, parse_call, split_calls, valid_unicode
from tau2_exp.protocols.text import (
    CALL,
    CALL_END,
    END_OF_TEXT,
    IM_END,
    IM_START,
    RESPONSE,
    RESPONSE_END,
    block,
    call_text,
    dump,
    neutralise,
)
from tau2_exp.types import Message, Role, Schema, ToolCall

STOP_WORD = "###STOP###"
ONE_OR_THE_OTHER = f"A turn is either words to the user or tool calls, never both. {STOP_WORD} ends the conversation."


class Native(Protocol):
    """The native format of Qwen3: a turn is words to the user, or tool calls."""

    stops: tuple[str, ...] = (IM_END, END_OF_TEXT)
    end = IM_END
    specials = (END_OF_TEXT, IM_START, IM_END, CALL, CALL_END, RESPONSE, RESPONSE_END)

    def _instructions(self, document: str, schemas: list[Schema]) -> str:
        """Qwen3's template to the letter around the schemas: the models were trained on this wording."""
        tools = "\n".join(dump(schema) for schema in schemas)
        return (
            f"{document or BARE_SYSTEM}\n\n"
            f"{ONE_OR_THE_OTHER}\n\n"
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{tools}\n</tools>\n\n"
            f"For each function call, return a json object with function name and arguments within {CALL}{CALL_END} "
            f'XML tags:\n{CALL}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_END}'
        )

    def _results(self, results: Sequence[Message], calls: Sequence[ToolCall]) -> str:
        texts = [f"{RESPONSE}\n{neutralise(result.content or '')}\n{RESPONSE_END}" for result in results]
        return block("user", "\n".join(texts))

    def write(self, message: Message | None, done: bool = False) -> str:
        """The text of words or of tool calls. Raises ValueError for an empty turn, and for tool calls beside done."""
        calls = message.tool_calls if message else ()
        words = neutralise(((message.content if message else None) or "").replace(STOP_WORD, "").rstrip())
        if (done and calls) or not (done or calls or words.strip()):
            raise ValueError("a turn of the native format is words, tool calls, or done with or without words")
        if calls:
            return "\n".join(call_text(c.name, c.arguments, "\n") for c in calls) + self.end
        return " ".join([words] * bool(words) + [STOP_WORD] * done) + self.end

    def _parse(self, text: str) -> Parsed:
        """Words beside tool calls are kept out of the message, as τ²-bench forbids mixing them."""
        calls, words = split_calls(text)
        if calls:
            return Parsed(Message(Role.ASSISTANT, tool_calls=tuple(parse_call(body) for body in calls)))
        done = STOP_WORD in words
        words = words.replace(STOP_WORD, "").strip()
        if not words and not done:
            raise Unparsable("an empty turn: write words to the user or a tool call")
        return Parsed(Message(Role.ASSISTANT, valid_unicode(words)) if words else None, done)
