"""ChatML's special tokens, and text that is safe between them and between those of other families."""

from __future__ import annotations

import json
import re
from typing import Any

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


CALL, CALL_END = "<tool_call>", "</tool_call>"


RESPONSE, RESPONSE_END = "<tool_response>", "</tool_response>"


THINK, THINK_END = "<think>", "</think>"


# What the chat templates of ChatML, Llama, Gemma, DeepSeek, Cohere and Mistral open and close turns, calls and thoughts
# with: the first character of each.
SPECIAL = re.compile(
    r"<(?=[|｜][^\s<>]+>|[^\s<>]+[|｜]>|/?(?:tool_call|tool_response|think|s|SYS|bos|eos|\w+_of_turn|[A-Z_]+_TOKEN)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|THINK)\])"
)


def neutralise(text: str) -> str:
    """The text with every string that a model's tokenizer could take for a special token broken by a space."""
    return SPECIAL.sub(r"\g<0> ", text)


def block(role: str, text: str) -> str:
    """One ChatML block."""
    return f"{IM_START}{role}\n{text}{IM_END}\n"


def dump(value: Any) -> str:
    """JSON in which letters outside ASCII stay as they are."""
    return json.dumps(value, ensure_ascii=False)


def call_text(name: str, arguments: dict[str, Any], around: str = "") -> str:
    """A tool call's text; inside JSON a special token's first character can be escaped without loss."""
    body = SPECIAL.sub(lambda first: f"\\u{ord(first[0]):04x}", dump({"name": name, "arguments": arguments}))
    return f"{CALL}{around}{body}{around}{CALL_END}"
