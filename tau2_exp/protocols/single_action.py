"""The reference pipeline's format: a turn is one `<tool_call>`, with `respond` and `done` among the tools."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.protocols.base import BARE_SYSTEM, Parsed, Protocol
from tau2_exp.protocols.parsing import Unparsable, parse_call, split_calls
from tau2_exp.protocols.text import (
    CALL,
    CALL_END,
    END_OF_TEXT,
    IM_END,
    IM_START,
    block,
    call_text,
    dump,
    neutralise,
)
from tau2_exp.types import Message, Role, Schema, ToolCall

RESPOND = {
    "name": "respond",
    "description": "Say something to the user.",
    "parameters": {"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]},
}


DONE = {
    "name": "done",
    "description": "End the conversation: the task is complete.",
    "parameters": {"type": "object", "properties": {}},
}


class SingleAction(Protocol):
    """The single-action format. A turn ends where its call does, or with `end` where no one token closes a call."""

    stops: tuple[str, ...] = (CALL_END, IM_END, END_OF_TEXT)
    specials = (END_OF_TEXT, IM_START, IM_END, CALL, CALL_END)

    def __init__(self, end: str = ""):
        self.end = end

    def _instructions(self, document: str, schemas: list[Schema]) -> str:
        functions = [schema.get("function", schema) for schema in schemas] + [RESPOND, DONE]
        fields = ("name", "description", "parameters")
        tools = "\n".join(dump({key: f[key] for key in fields if key in f}) for f in functions)
        example = call_text("tool_name", {"parameter": "value"})
        return (
            f"# Output format\nEvery turn is exactly one tool call, with nothing around it:\n{example}\n"
            f"Speak to the user with `respond`; end the conversation with `done`.\n\n"
            f"# Policy\n{document or BARE_SYSTEM}\n\n# Tools\n{tools}"
        )

    def _results(self, results: Sequence[Message], calls: Sequence[ToolCall]) -> str:
        texts = [f"Tool result for {_functional(c)}:\n" for c in calls] + [""] * (len(results) - len(calls))
        pairs = zip(texts, results, strict=False)
        return "".join(block("user", neutralise(text + (result.content or ""))) for text, result in pairs)

    def write(self, message: Message | None, done: bool = False) -> str:
        """The text of one tool call. Raises ValueError for several calls, and for no message without done."""
        if done:
            return call_text("done", {}) + self.end
        if message is None or len(message.tool_calls) > 1:
            raise ValueError("a turn of the single-action format is one message, one tool call or done")
        if message.tool_calls:
            return call_text(message.tool_calls[0].name, message.tool_calls[0].arguments) + self.end
        return call_text("respond", {"content": message.content or ""}) + self.end

    def _parse(self, text: str) -> Parsed:
        """Words around the tool call are passed over, as in the reference."""
        calls, _ = split_calls(text)
        if len(calls) != 1:
            raise Unparsable(f"expected exactly one tool call in a turn, found {len(calls)}")
        call = parse_call(calls[0])
        if call.name == "done":
            return Parsed(done=True)
        if call.name != "respond":
            return Parsed(Message(Role.ASSISTANT, tool_calls=(call,)))
        content = call.arguments.get("content")
        if not isinstance(content, str) or not content.strip():
            raise Unparsable("respond needs `content`, a text that is not empty")
        return Parsed(Message(Role.ASSISTANT, content))


def _functional(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
