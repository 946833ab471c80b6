"""A chat completion as a Reply, read by the strict parser: what a model wrote is its own, and never raises."""

from __future__ import annotations

from typing import Any

from tau2_exp.llm.replies import Reply
from tau2_exp.protocols.parsing import Unparsable, read_call, repaired_unicode, split_thoughts, valid_unicode
from tau2_exp.types import Role, ToolCall, Usage

THOUGHTS = ("reasoning_content", "thinking_blocks")  # of a message: thinking models refuse a chat that lacks theirs


def read_reply(response: Any, role: Role, max_tokens: int, usage: Usage) -> Reply:
    """The reply in the first choice of litellm's completion, written by `role`; one that is no turn has an error."""
    if not response.choices:
        return Reply(None, (), usage, "", error="the server sent no reply (no choices)")
    choice = response.choices[0]
    message, finish = choice.message, choice.finish_reason
    text = written(message)
    if finish == "length":
        return Reply(None, (), usage, text, error=f"cut at max_tokens ({max_tokens}): write less", truncated=True)
    try:
        words = valid_unicode(split_thoughts(_words(message))[1]).strip()
        calls = tuple(_call(call, role) for call in message.tool_calls or ())
        if not words and not calls:
            raise Unparsable("an empty turn: write words or a tool call" + _reason(finish))
    except Unparsable as error:
        return Reply(None, (), usage, text, error=str(error))
    return Reply(words or None, calls, usage, text, _thoughts(message))


def written(message: Any) -> str:
    """All that a message holds, as one text: thoughts, words, and each call as `tool(arguments)`."""
    thoughts = getattr(message, "reasoning_content", None)
    calls = [f"{call.function.name or ''}({call.function.arguments})" for call in message.tool_calls or ()]
    parts = [f"<think>\n{thoughts}\n</think>\n"] if thoughts else []
    return repaired_unicode("\n".join([*parts, *filter(None, [_words(message)]), *calls]))


def _words(message: Any) -> str:
    """What a message says; some servers send it in parts, as requests may have them."""
    content = message.content or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))


def _call(call: Any, role: Role) -> ToolCall:
    return read_call(call.function.name, call.function.arguments, role, call.id if isinstance(call.id, str) else "")


def _thoughts(message: Any) -> dict[str, Any]:
    found = {name: getattr(message, name, None) for name in THOUGHTS}
    kept = {name: value for name, value in found.items() if value}
    return {name: repaired_unicode(value) if isinstance(value, str) else value for name, value in kept.items()}


def _reason(finish: Any) -> str:
    return f" (the server ended it by {finish!r})" if finish not in ("stop", "tool_calls", None) else ""
