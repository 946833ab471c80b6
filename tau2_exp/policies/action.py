"""What an agent without a model does: a message or one tool call, with its text."""

from __future__ import annotations

import json
from typing import Any

from tau2_exp.types import Action, Message, Role, ToolCall


def say(text: str, done: bool = False) -> Action:
    return Action(Message(Role.ASSISTANT, text), text, done)


def use(tool: str, arguments: dict[str, Any]) -> Action:
    """One of the agent's own tools."""
    text = f"{tool}({json.dumps(arguments, ensure_ascii=False)})"
    return Action(Message(Role.ASSISTANT, tool_calls=(ToolCall(tool, arguments),)), text)
