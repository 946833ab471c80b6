"""A chat as it is sent: whatever was said or called, in a form that a strict server takes back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from tau2_exp.llm.replies import Reply
from tau2_exp.protocols.parsing import repaired_unicode
from tau2_exp.protocols.text import neutralise
from tau2_exp.types import Message, Role, ToolCall

Chat = list[dict[str, Any]]  # OpenAI's messages
NOTHING = "(empty)"  # stands for an empty message of the assistant, which strict servers refuse

_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9_-]")
LONGEST_NAME = 64
# OpenAI takes 40 letters; the longer forms are Moonshot's own, and litellm's of Gemini's signatures.
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}(?:__thought__[A-Za-z0-9+/=_-]+)?|functions\.[A-Za-z0-9_-]{1,64}:\d{1,6}")


class Conversation:
    """A chat as one side of an episode sees it: its own words are the assistant's, the other's are the user's.

    Ids of tool calls are sent as the server gave them where they are valid and new in this chat, else replaced.
    """

    def __init__(self, system: str, role: Role):
        self.messages: Chat = [{"role": "system", "content": system}]
        self._role = role
        self._ids: set[str] = set()
        self._unanswered: list[tuple[str, str]] = []  # the id of a call as it was made, and as it was sent

    def hear(self, heard: Sequence[Message]) -> None:
        """Append what this side hears; as in τ²-bench, without the other side's tool calls and their results.

        A server's tokenizer may read a special token wherever one is written: nothing that is heard holds one.
        """
        self.messages.extend(self._heard(message) for message in heard if self._audible(message))

    def say(self, reply: Reply) -> None:
        """Append this side's reply; one that is no turn as it was written, so that its model sees what was wrong."""
        if reply.error is not None:
            self.messages.append({"role": "assistant", "content": repaired_unicode(reply.text).strip() or NOTHING})
        else:
            self.messages.append(self._said(reply.content, reply.tool_calls) | reply.thoughts)

    def copy(self) -> Conversation:
        """An independent chat that goes on from here; what was sent so far is shared, since it never changes."""
        other = copy.copy(self)
        other.messages, other._ids, other._unanswered = list(self.messages), set(self._ids), list(self._unanswered)
        return other

    def _audible(self, message: Message) -> bool:
        if message.role is Role.TOOL:
            return message.requestor in (None, self._role)
        return message.role is self._role or bool(message.content)

    def _heard(self, message: Message) -> dict[str, Any]:
        if message.role is self._role:
            return self._said(message.content, message.tool_calls)
        content = neutralise(message.content or "")
        if message.role is Role.TOOL and self._unanswered:
            return {"role": "tool", "tool_call_id": self._answered(message.call_id), "content": content}
        return {"role": "user", "content": content}

    def _said(self, content: str | None, calls: Sequence[ToolCall]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content or ""}
        if calls:
            message["tool_calls"] = [self._call(call) for call in calls]
        return message

    def _call(self, call: ToolCall) -> dict[str, Any]:
        id = call.id
        if id in self._ids or not _ID.fullmatch(id):
            id = f"call{len(self._ids):05}"  # nine letters and digits, as Mistral wants them
        self._ids.add(id)
        self._unanswered.append((call.id, id))
        name = _NOT_OF_NAMES.sub("_", call.name)[:LONGEST_NAME]
        return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(call.arguments)}}

    def _answered(self, made: str) -> str:
        """The sent id of the first unanswered call with this id, else of the first unanswered call."""
        place = next((i for i, (id, _) in enumerate(self._unanswered) if id == made), 0)
        return self._unanswered.pop(place)[1]
