"""Files of SFT data: trajectories and published conversations, one JSON object a line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tau2_exp import codec
from tau2_exp.learning.left_out import MESSAGES, left_out
from tau2_exp.protocols.parsing import Unparsable, check_message, read_call, split_thoughts, valid_unicode
from tau2_exp.types import Message, Role, ToolCall, Trajectory

Conversation = tuple[Message, ...]  # a published dialogue, its system message first
_REPORTED = 20  # bad lines named at once


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
