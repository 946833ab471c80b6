"""The parts of a line of SFT data that nothing is learned from: counted, so that a run can report them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tau2_exp.types import Role

MESSAGES = ("prompt", "messages")  # either holds a line's conversation
_READ = {"role", "content", "tool_calls", "tool_call_id", "name"}  # of a message


def left_out(line: dict[str, Any]) -> Counter[str]:
    """Counts, by kind, of the parts of a line that no row is made from; empty for a line that is a trajectory."""
    key = next((key for key in MESSAGES if key in line), None)
    return Counter([] if key is None else _left_out(line, line[key]))


def _left_out(line: dict[str, Any], messages: Any) -> Iterator[str]:
    yield from (f"`{key}` of a line" for key, value in line.items() if key not in MESSAGES and value is not None)
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        yield from (f"`{key}` of a message" for key, value in message.items() if key not in _READ and value)
        content = message.get("content")
        if message.get("role") != Role.ASSISTANT.value or not isinstance(content, str):
            continue
        if "</think>" in content:
            yield "thoughts in an assistant message"
        if message.get("tool_calls") and content.rpartition("</think>")[2].strip():
            yield "words beside tool calls"
