"""The one strict parser of what a model wrote: stops, thoughts, words, tool calls.

Every way in uses it: sampled text, an API's replies, SFT data, files of results. What it lets through can be written,
read again, tokenised and sent to a server.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from tau2_exp.protocols.text import CALL, CALL_END, END_OF_TEXT, IM_END, THINK, THINK_END
from tau2_exp.types import Message, Role, ToolCall

_DEEPEST = 32  # levels of nested JSON in a tool call; no tool takes more than four


class Unparsable(ValueError):
    """What a model wrote is no turn; the message is one short line for it to read."""


def without_stops(text: str) -> str:
    """The text without the stop tokens at its end, and without whitespace around it."""
    text = text.strip()
    while text.endswith((IM_END, END_OF_TEXT)):
        text = text.removesuffix(IM_END).removesuffix(END_OF_TEXT).rstrip()
    return text


def without_thinking(text: str) -> str:
    """The text after its blocks of thoughts; see `split_thoughts`."""
    return split_thoughts(text)[1]


def split_thoughts(text: str) -> tuple[str, str]:
    """Thoughts, and the text after them, whether their opening tag was sampled or given in the prompt.

    Tags within a tool call are the call's own text. Raises Unparsable where a block of thoughts is not closed.
    """
    thoughts = []
    while THINK_END in text:
        before, _, after = text.partition(THINK_END)
        if CALL in before.partition(THINK)[0]:
            break
        thoughts.append(before.strip().removeprefix(THINK).strip())
        text = after
    if THINK in text.partition(CALL)[0]:
        raise Unparsable("the thinking block is not closed")
    return "\n".join(filter(None, thoughts)), text


def split_calls(text: str) -> tuple[list[str], str]:
    """The bodies of the tool calls, and the words around them."""
    words, *rest = text.split(CALL)
    calls = []
    for piece in rest:
        body, tag, after = piece.partition(CALL_END)
        if not tag:
            raise Unparsable("a tool call is not closed")
        calls.append(body)
        words += after
    if CALL_END in words:
        raise Unparsable("a tool call is closed that was never opened")
    return calls, words


def parse_call(body: str) -> ToolCall:
    """The call that a `<tool_call>` block holds."""
    data = _parse_json(body)
    if not isinstance(data, dict):
        raise Unparsable("a tool call must be a JSON object with `name` and `arguments`")
    return read_call(data.get("name"), data.get("arguments"))


def read_call(name: Any, arguments: Any, requestor: Role = Role.ASSISTANT, id: str = "") -> ToolCall:
    """A tool call whose name and arguments may be anything; arguments are an object, its JSON, or missing.

    Raises Unparsable, in one short line that names no more than what is wrong.
    """
    if not isinstance(name, str) or not name.strip():
        raise Unparsable("a tool call needs `name`, a text that is not empty")
    if isinstance(arguments, str):  # the reference takes arguments dumped twice
        arguments = _parse_json(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise Unparsable("a tool call's `arguments` must be a JSON object")
    return check_call(ToolCall(name, arguments, requestor, id))


def check_call(call: ToolCall) -> ToolCall:
    """The call itself. Raises Unparsable where it could not be written and read again."""
    for text in (call.name, call.id):
        if not isinstance(text, str):
            raise Unparsable("the name or the id of a tool call is not a text")
        valid_unicode(text)
    _check_value(call.arguments, _DEEPEST)
    return call


def check_message(message: Message) -> Message:
    """The message itself. Raises Unparsable where it could not be written and read again."""
    if message.content is not None:
        if not isinstance(message.content, str):
            raise Unparsable("the content of a message is not a text")
        valid_unicode(message.content)
    for call in message.tool_calls:
        check_call(call)
    return message


def _parse_json(text: str) -> Any:
    """JSON as the rest of the system can keep it: finite numbers, valid Unicode, no key twice, no deep nesting."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise Unparsable(f"invalid JSON: {error.msg} at character {error.pos}") from None
    except Unparsable:
        raise
    except RecursionError:
        raise Unparsable("the JSON is nested too deeply") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise Unparsable("a number is too large") from None
    _check_value(value, _DEEPEST)
    return value


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject(f"{text[:20]} is not a number that can be used")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _reject("a key stands twice in a JSON object")


def _check_value(value: Any, depth: int) -> None:
    """JSON's own types only, which are finite, valid Unicode and at most `depth` levels deep."""
    if isinstance(value, str):
        valid_unicode(value)
    elif isinstance(value, float):
        _finite(repr(value))
    elif isinstance(value, (dict, list)):
        if value and depth == 0:
            raise Unparsable("the JSON is nested too deeply")
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise Unparsable("a key of a JSON object is not a text")
            valid_unicode(key)
        for child in value.values() if isinstance(value, dict) else value:
            _check_value(child, depth - 1)
    elif value is not None and not isinstance(value, (bool, int)):
        raise Unparsable(f"{type(value).__name__} is no type of JSON")


def valid_unicode(text: str) -> str:
    """The text itself. Raises Unparsable for half a surrogate pair, which no tokenizer and no strict server takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unparsable("the text is not valid Unicode") from None
    return text


def _reject(why: str) -> NoReturn:
    raise Unparsable(why)


def repaired_unicode(text: str) -> str:
    """The text with each half of a surrogate pair replaced by U+FFFD: for what is recorded as it was written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
