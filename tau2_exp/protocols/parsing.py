"""The one strict parser of what an agent wrote: stops, thoughts, tool calls."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from tau2_exp.protocols.text import CALL, CALL_END, END_OF_TEXT, IM_END, THINK, THINK_END, dump
from tau2_exp.types import ToolCall

_DEEPEST = 32  # levels of nested JSON in a tool call; no tool takes more than four


class Unparsable(Exception):
    pass


def without_stops(text: str) -> str:
    text = text.strip()
    while text.endswith((IM_END, END_OF_TEXT)):
        text = text.removesuffix(IM_END).removesuffix(END_OF_TEXT).rstrip()
    return text


def without_thinking(text: str) -> str:
    """The text after a leading block of thoughts, whether its opening tag was sampled or given."""
    before, tag, after = text.partition(THINK_END)
    if text.startswith(THINK) and not tag:
        raise Unparsable("the thinking block is not closed")
    return after if tag and (text.startswith(THINK) or CALL not in before) else text


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
    data = _parse_json(body)
    if not isinstance(data, dict):
        raise Unparsable("a tool call must be a JSON object with `name` and `arguments`")
    name, arguments = data.get("name"), data.get("arguments")
    if not isinstance(name, str) or not name.strip():
        raise Unparsable("a tool call needs `name`, a text that is not empty")
    if isinstance(arguments, str):  # the reference takes arguments dumped twice
        arguments = _parse_json(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise Unparsable("a tool call's `arguments` must be a JSON object")
    return ToolCall(name, arguments)


def _parse_json(text: str) -> Any:
    """JSON as the rest of the system can keep it: finite numbers, valid Unicode, no key twice, no deep nesting."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise Unparsable(f"invalid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Unparsable("the JSON is nested too deeply") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise Unparsable("a number is too large") from None
    _bounded(value, _DEEPEST)
    valid_unicode(dump(value))
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
        raise Unparsable("the JSON is nested too deeply")
    for child in children:
        _bounded(child, depth - 1)


def valid_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unparsable("the text is not valid Unicode") from None
    return text


def _reject(why: str) -> NoReturn:
    raise Unparsable(why)
