"""What an agent hears and says, as text, in both directions. Both formats are ChatML.

`single_action` is the reference pipeline's: a turn is one `<tool_call>`, with `respond` and `done` among the tools.
`native` is Qwen3's own chat template: words, or one or more tool calls; `###STOP###` in the words ends the episode.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tau2_exp.config import ProtocolName
from tau2_exp.types import GREETING, Message, Role, Schema, ToolCall

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"
THINK, THINK_END = "<think>", "</think>"
STOP_WORD = "###STOP###"

_DEEPEST = 32  # levels of nested JSON in a tool call; no tool takes more than four
_SPECIAL = re.compile(r"<(?=\|\w+\|>|/?(?:tool_call|tool_response|think)>)")
_BARE_SYSTEM = "You are a customer service agent."


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text does. Exactly one holds: there is a message, or the agent is done, or `error` says what was wrong.

    Only `native` can be done with a last message.
    """

    message: Message | None = None
    done: bool = False
    error: str | None = None


class _Unparsable(Exception):
    pass


def correction(why: str) -> Message:
    """What an agent hears after a turn that could not be parsed."""
    return Message(Role.TOOL, f"Error: {why}", requestor=Role.ASSISTANT, error=True)


def neutralise(text: str) -> str:
    """The text with every string that a tokenizer could take for a special token broken by a space."""
    return _SPECIAL.sub("< ", text)


class Protocol(ABC):
    """One format of conversation. Stateless: a conversation's state is its text."""

    stops: tuple[str, ...]  # special tokens that end a turn and are kept in it
    specials: tuple[str, ...]  # special tokens that a tokenizer must hold

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

    def system(self, document: str, schemas: list[Schema] | None) -> str:
        """The whole system block; without schemas it names no tool and explains no format."""
        text = document.strip() if schemas is None else self._instructions(document.strip(), schemas)
        return _block("system", text or _BARE_SYSTEM)

    def observe(self, messages: Sequence[Message], said: str = "") -> str:
        """What the agent hears, ending where its next turn begins; `said` is the text of its turn before.

        A user's own tool calls with their results, and the greeting that every episode opens with, are not heard.
        Nothing that a user or a tool says can open or close a turn.
        """
        calls = self._calls(said)
        chunks, results = [], []
        for message in (*messages, None):
            if message is not None and not _audible(message):
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
                chunks.append(_block("user", neutralise(message.content or "")))
        return "".join(chunks) + f"{IM_START}assistant\n"

    def close(self, sampled: str) -> str:
        """What is appended to a sampled turn, however it ended, before anything else is heard."""
        return "\n" if sampled.endswith(IM_END) else f"{IM_END}\n"

    def parse(self, text: str) -> Parsed:
        """What the text does. Never raises; `error` is one short line for the agent to read."""
        try:
            return self._parse(_without_thinking(_without_stops(text)))
        except _Unparsable as error:
            return Parsed(error=str(error))

    def _calls(self, text: str) -> Sequence[ToolCall]:
        message = self.parse(text).message
        return message.tool_calls if message else ()

    def _history(self, message: Message) -> str:
        text = self.write(message)
        return f"{IM_START}assistant\n{text}{self.close(text)}"


class SingleAction(Protocol):
    stops = (CALL_END, IM_END, END_OF_TEXT)
    specials = (END_OF_TEXT, IM_START, IM_END, CALL, CALL_END)

    def _instructions(self, document: str, schemas: list[Schema]) -> str:
        functions = [schema.get("function", schema) for schema in schemas] + [_RESPOND, _DONE]
        fields = ("name", "description", "parameters")
        tools = "\n".join(_dump({key: f[key] for key in fields if key in f}) for f in functions)
        example = _call("tool_name", {"parameter": "value"})
        return (
            f"# Output format\nEvery turn is exactly one tool call, with nothing around it:\n{example}\n"
            f"Speak to the user with `respond`; end the conversation with `done`.\n\n"
            f"# Policy\n{document or _BARE_SYSTEM}\n\n# Tools\n{tools}"
        )

    def _results(self, results: Sequence[Message], calls: Sequence[ToolCall]) -> str:
        texts = [f"Tool result for {_functional(c)}:\n" for c in calls] + [""] * (len(results) - len(calls))
        pairs = zip(texts, results, strict=False)
        return "".join(_block("user", neutralise(text + (result.content or ""))) for text, result in pairs)

    def write(self, message: Message | None, done: bool = False) -> str:
        if done:
            return _call("done", {})
        if message is None or len(message.tool_calls) > 1:
            raise ValueError("a turn of the single-action format is one message, one tool call or done")
        if message.tool_calls:
            return _call(message.tool_calls[0].name, message.tool_calls[0].arguments)
        return _call("respond", {"content": message.content or ""})

    def _parse(self, text: str) -> Parsed:
        """Words around the tool call are passed over, as in the reference."""
        calls, _ = _split(text)
        if len(calls) != 1:
            raise _Unparsable(f"expected exactly one tool call in a turn, found {len(calls)}")
        call = _parse_call(calls[0])
        if call.name == "done":
            return Parsed(done=True)
        if call.name != "respond":
            return Parsed(Message(Role.ASSISTANT, tool_calls=(call,)))
        content = call.arguments.get("content")
        if not isinstance(content, str) or not content.strip():
            raise _Unparsable("respond needs `content`, a text that is not empty")
        return Parsed(Message(Role.ASSISTANT, content))


class Native(Protocol):
    stops = (IM_END, END_OF_TEXT)
    specials = (END_OF_TEXT, IM_START, IM_END, CALL, CALL_END, RESPONSE, RESPONSE_END)

    def _instructions(self, document: str, schemas: list[Schema]) -> str:
        """Qwen3's template to the letter around the schemas: the models were trained on this wording."""
        tools = "\n".join(_dump(schema) for schema in schemas)
        return (
            f"{document or _BARE_SYSTEM}\n\n"
            f"A turn is either words to the user or tool calls, never both. {STOP_WORD} ends the conversation.\n\n"
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{tools}\n</tools>\n\n"
            f"For each function call, return a json object with function name and arguments within {CALL}{CALL_END} "
            f'XML tags:\n{CALL}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_END}'
        )

    def _results(self, results: Sequence[Message], calls: Sequence[ToolCall]) -> str:
        texts = [f"{RESPONSE}\n{neutralise(result.content or '')}\n{RESPONSE_END}" for result in results]
        return _block("user", "\n".join(texts))

    def write(self, message: Message | None, done: bool = False) -> str:
        calls = message.tool_calls if message else ()
        words = neutralise((message.content if message else None) or "")
        if (done and calls) or not (done or calls or words.strip()):
            raise ValueError("a turn of the native format is words, tool calls, or done with or without words")
        if calls:
            return "\n".join(_call(c.name, c.arguments, "\n") for c in calls) + IM_END
        return " ".join([words] * bool(words) + [STOP_WORD] * done) + IM_END

    def _parse(self, text: str) -> Parsed:
        """Words beside tool calls are kept out of the message, as τ²-bench forbids mixing them."""
        calls, words = _split(text)
        if calls:
            return Parsed(Message(Role.ASSISTANT, tool_calls=tuple(_parse_call(body) for body in calls)))
        done = STOP_WORD in words
        words = words.replace(STOP_WORD, "").strip()
        if not words and not done:
            raise _Unparsable("an empty turn: write words to the user or a tool call")
        return Parsed(Message(Role.ASSISTANT, _unicode(words)) if words else None, done)


_PROTOCOLS: dict[ProtocolName, type[Protocol]] = {
    ProtocolName.single_action: SingleAction,
    ProtocolName.native: Native,
}

_RESPOND = {
    "name": "respond",
    "description": "Say something to the user.",
    "parameters": {"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]},
}
_DONE = {
    "name": "done",
    "description": "End the conversation: the task is complete.",
    "parameters": {"type": "object", "properties": {}},
}


def make_protocol(name: ProtocolName) -> Protocol:
    return _PROTOCOLS[name]()


# ---------------------------------------------------------------- text of messages


def _block(role: str, text: str) -> str:
    return f"{IM_START}{role}\n{text}{IM_END}\n"


def _audible(message: Message) -> bool:
    if message.role is Role.TOOL:
        return message.requestor is not Role.USER
    return not (message.role is Role.USER and message.tool_calls) and message != GREETING


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _call(name: str, arguments: dict[str, Any], around: str = "") -> str:
    """A tool call's text; inside JSON a special token's `<` can be escaped without loss."""
    body = _SPECIAL.sub(r"\\u003c", _dump({"name": name, "arguments": arguments}))
    return f"{CALL}{around}{body}{around}{CALL_END}"


def _functional(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


# ---------------------------------------------------------------- parsing


def _without_stops(text: str) -> str:
    text = text.strip()
    while text.endswith((IM_END, END_OF_TEXT)):
        text = text.removesuffix(IM_END).removesuffix(END_OF_TEXT).rstrip()
    return text


def _without_thinking(text: str) -> str:
    """The text after a leading block of thoughts, whether its opening tag was sampled or given."""
    before, tag, after = text.partition(THINK_END)
    if text.startswith(THINK) and not tag:
        raise _Unparsable("the thinking block is not closed")
    return after if tag and (text.startswith(THINK) or CALL not in before) else text


def _split(text: str) -> tuple[list[str], str]:
    """The bodies of the tool calls, and the words around them."""
    words, *rest = text.split(CALL)
    calls = []
    for piece in rest:
        body, tag, after = piece.partition(CALL_END)
        if not tag:
            raise _Unparsable("a tool call is not closed")
        calls.append(body)
        words += after
    if CALL_END in words:
        raise _Unparsable("a tool call is closed that was never opened")
    return calls, words


def _parse_call(body: str) -> ToolCall:
    data = _parse_json(body)
    if not isinstance(data, dict):
        raise _Unparsable("a tool call must be a JSON object with `name` and `arguments`")
    name, arguments = data.get("name"), data.get("arguments")
    if not isinstance(name, str) or not name.strip():
        raise _Unparsable("a tool call needs `name`, a text that is not empty")
    if isinstance(arguments, str):  # the reference takes arguments dumped twice
        arguments = _parse_json(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise _Unparsable("a tool call's `arguments` must be a JSON object")
    return ToolCall(name, arguments)


def _parse_json(text: str) -> Any:
    """JSON as the rest of the system can keep it: finite numbers, valid Unicode, no key twice, no deep nesting."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _Unparsable(f"invalid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _Unparsable("the JSON is nested too deeply") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise _Unparsable("a number is too large") from None
    _bounded(value, _DEEPEST)
    _unicode(_dump(value))
    return value


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject(f"{text[:20]} is not a number that can be used")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _reject("a key stands twice in a JSON object")


def _bounded(value: Any, depth: int) -> None:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if children and depth == 0:
        raise _Unparsable("the JSON is nested too deeply")
    for child in children:
        _bounded(child, depth - 1)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unparsable("the text is not valid Unicode") from None
    return text


def _reject(why: str) -> NoReturn:
    raise _Unparsable(why)
