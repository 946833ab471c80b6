"""The native format as a model's own chat template writes it.

What a template says of a whole conversation is cut into what is appended between two turns, so that ids stay as they
were sampled. A template may rewrite the past (Qwen3's drops empty thinking blocks from it); what was written stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tau2_exp.protocols.base import BARE_SYSTEM, audible
from tau2_exp.protocols.native import ONE_OR_THE_OTHER, Native
from tau2_exp.protocols.text import neutralise
from tau2_exp.types import Message, Role, Schema, ToolCall

# (messages, tools or None, whether the assistant's next turn is opened) → text
Render = Callable[[list[dict[str, Any]], list[Schema] | None, bool], str]

_MARK, _OTHER = "mark of a place", "mark of another"
_TOOL: Schema = {
    "type": "function",
    "function": {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}},
}
_CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("look_up", {"id": 1}),))


def renderer(template: str, tokens: dict[str, Any], thinking: bool) -> Render:
    """A template of Jinja text, rendered as transformers does; `tokens` are the tokenizer's (`bos_token`, …)."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(messages: list[dict[str, Any]], tools: list[Schema] | None, opened: bool) -> str:
        try:
            texts: Any = render_jinja_template(
                [messages],
                tools=[*tools] if tools is not None else None,
                chat_template=template,
                add_generation_prompt=opened,
                enable_thinking=thinking,
                **tokens,
            )
        except Exception as error:  # a template raises what it likes
            raise TemplateError(f"the chat template fails: {' '.join(str(error).split())}") from None
        return str(texts[0][0])

    return render


class TemplateError(ValueError):
    """A chat template that `native` cannot follow; the message says why."""


class NamesNoTools(TemplateError):
    """A chat template that does not render tools."""


class TemplateNative(Native):
    """`native` by a template. Raises TemplateError for one that names no tools, or calls them in another format."""

    def __init__(self, render: Render):
        self._render = render
        user, marked, other = _message("user", "Hello."), _message("user", _MARK), _message("user", _OTHER)
        self._after_user = _after(render([user, marked], None, False), _MARK)
        between = _after(render([user, marked, other], None, False), _MARK).partition(_OTHER)[0]
        self._user_opening = between.removeprefix(self._after_user)
        self._closing = _after(render([user, _message("assistant", _MARK)], None, False), _MARK)
        self.end = self._closing.strip()
        self.stops = (self.end, *(stop for stop in Native.stops if stop != self.end))
        self._bare = self.system("", None)
        self._check(user)

    def system(self, document: str, schemas: list[Schema] | None) -> str:
        """The whole system block, with the tools as the template writes them."""
        text = self._render([self._system(document, schemas), _message("user", _MARK)], schemas, False)
        return text.partition(_MARK)[0].removesuffix(self._user_opening)

    def observe(self, messages: Sequence[Message], said: str = "") -> str:
        """What the agent hears, as the template writes it, ending where its next turn begins."""
        heard = [entry for message in messages if audible(message) for entry in self._entries(message)]
        if not said:
            return self._render([self._system("", None), *heard], None, True).removeprefix(self._bare)
        before = [_message("user", "Hello."), _message("assistant", _MARK)]
        return _after(self._render([*before, *heard], None, True), _MARK).removeprefix(self._closing)

    def close(self, sampled: str) -> str:
        """What the template appends to a sampled turn."""
        return self._closing.removeprefix(self.end) if sampled.endswith(self.end) else self._closing

    def _system(self, document: str, schemas: list[Schema] | None) -> dict[str, Any]:
        text = document.strip() or BARE_SYSTEM
        return _message("system", text if schemas is None else f"{text}\n\n{ONE_OR_THE_OTHER}")

    def _entries(self, message: Message) -> list[dict[str, Any]]:
        if message.role is Role.ASSISTANT:  # of a task's history
            return [as_template(message)]
        return [_message(message.role.value, neutralise(message.content or ""))]

    def _check(self, user: dict[str, Any]) -> None:
        if "look_up" not in self._render([user], [_TOOL], True):
            raise NamesNoTools("the chat template names no tools")
        written = self._render([user, as_template(_CALL)], [_TOOL], False)
        if self.write(_CALL).removesuffix(self.end) not in written:
            raise TemplateError("the chat template writes tool calls in another format")


def as_template(message: Message) -> dict[str, Any]:
    """A message as chat templates take it; the arguments of its calls stay objects."""
    calls = [{"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    return {**_message(message.role.value, message.content or ""), **({"tool_calls": calls} if calls else {})}


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _after(text: str, mark: str) -> str:
    _, found, after = text.partition(mark)
    if not found:
        raise TemplateError("the chat template leaves out what was said")
    return after
