"""The actions of an agent without tokens: a message or tool calls, and their text."""

from __future__ import annotations

import json
from typing import Any

from tau2_exp.types import Action, Message, Role, ToolCall


def say(text: str, done: bool = False) -> Action:
    """A message to the user; `done` ends the episode."""
    return Action(Message(Role.ASSISTANT, text), text, done)


def use(tool: str, arguments: dict[str, Any]) -> Action:
    """A call of one of the agent's own tools."""
    message = Message(Role.ASSISTANT, tool_calls=(ToolCall(tool, arguments),))
    return Action(message, written(message))


def written(message: Message) -> str:
    """The text of an action, bound to no protocol: what is said, and each call as `tool({arguments})`."""
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in message.tool_calls]
    return "\n".join([message.content or "", *calls]).strip()
