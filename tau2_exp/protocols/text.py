"""ChatML's special tokens, and text that is safe between them."""

from __future__ import annotations

import json
import re
from typing import Any

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


CALL, CALL_END = "<tool_call>", "</tool_call>"


RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"


THINK, THINK_END = "<think>", "</think>"


SPECIAL = re.compile(r"<(?=\|\w+\|>|/?(?:tool_call|tool_response|think)>)")


def neutralise(text: str) -> str:
    """The text with every string that a tokenizer could take for a special token broken by a space."""
    return SPECIAL.sub("< ", text)


def block(role: str, text: str) -> str:
    """One ChatML block."""
    return f"{IM_START}{role}\n{text}{IM_END}\n"


def dump(value: Any) -> str:
    """JSON in which letters outside ASCII stay as they are."""
    return json.dumps(value, ensure_ascii=False)


def call_text(name: str, arguments: dict[str, Any], around: str = "") -> str:
    """A tool call's text; inside JSON a special token's `<` can be escaped without loss."""
    body = SPECIAL.sub(r"\\u003c", dump({"name": name, "arguments": arguments}))
    return f"{CALL}{around}{body}{around}{CALL_END}"
