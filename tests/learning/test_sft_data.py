"""A file of SFT data is read line by line, and every bad line is named with its reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from dialogues import CharTokenizer, make_trajectory

from tau2_exp import codec
from tau2_exp.config import ProtocolName
from tau2_exp.learning.batch import rows_from_messages
from tau2_exp.learning.sft_data import read_sft_file
from tau2_exp.protocols import make_protocol
from tau2_exp.types import Message, Role, ToolCall, Turn

NATIVE = make_protocol(ProtocolName.native)
DIALOGUE = make_trajectory(Turn("", (Message(Role.ASSISTANT, "It is paid."), Message(Role.USER, "Thanks"))))
GOOD = {"prompt": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}


def calling(arguments: str, name: str = "f") -> str:
    function = {"name": name, "arguments": arguments}
    return json.dumps({"prompt": [{"role": "assistant", "tool_calls": [{"function": function}]}]})


def with_call(arguments: dict[str, object]) -> dict[str, object]:
    turn = Turn("", (Message(Role.ASSISTANT, tool_calls=(ToolCall("f", arguments),)),))
    return codec.encode(dataclasses.replace(DIALOGUE, turns=(turn,)))


def write(path: Path, *lines: str) -> Path:
    file = path / "data.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_both_kinds_of_line_are_read(tmp_path: Path):
    file = write(tmp_path, json.dumps(GOOD), "", json.dumps(codec.encode(DIALOGUE)))
    (first, prompt), (third, trajectory) = read_sft_file(file)
    assert (first, third) == (1, 3)
    assert prompt == (Message(Role.USER, "Hello"), Message(Role.ASSISTANT, "Hi")) and trajectory == DIALOGUE


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("3", "expected an object, got int"),
        ('{"prompt": "hello"}', "prompt: expected a list of messages, got str"),
        ('{"prompt": []}', "no assistant message to learn from"),
        ('{"prompt": [{"role": "user", "content": "Hi"}]}', "no assistant message to learn from"),
        ('{"prompt": [{"role": "robot", "content": "Hi"}]}', "prompt[0].role: 'robot' is not one of system"),
        ('{"prompt": [{"role": ["user"], "content": "Hi"}]}', "prompt[0].role: ['user'] is not one of"),
        ('{"prompt": [{"role": "user", "content": 3}]}', "prompt[0].content: expected a string, got int"),
        ('{"prompt": [{"role": "assistant", "content": " "}]}', "prompt[0].content: missing or empty"),
        ('{"prompt": [{"role": "assistant", "tool_calls": 3}]}', "prompt[0].tool_calls: expected a list, got int"),
        ('{"prompt": [{"role": "assistant", "tool_calls": [{}]}]}', "tool_calls[0]: expected a function"),
        ('{"prompt": [{"role": "user", "content": "Hi"}, {"role": "system", "content": "x"}]}', "only come first"),
        ('{"task": "t"}', "Trajectory"),
        ('{"text": "Hi"}', "no `prompt` and no `messages`"),
        (json.dumps(GOOD | {"messages": GOOD["prompt"]}), "prompt and messages: two names for one thing"),
        ('{"prompt": ' + "[" * 100_000, "recursion"),
        (calling('{"a": NaN}'), "prompt[0].tool_calls[0]: NaN is not a number"),
        (
            calling('{"a": ' + "[" * 50 + "]" * 50 + "}"),
            "prompt[0].tool_calls[0]: the JSON is nested too deeply",
        ),
        (calling('{"a": 1, "a": 2}'), "prompt[0].tool_calls[0]: a key stands twice"),
        (calling("{}", name=" "), "prompt[0].tool_calls[0]: a tool call needs `name`"),
        ('{"prompt": [{"role": "assistant", "content": "a\\ud83d"}]}', "prompt[0]: the text is not valid Unicode"),
        (
            '{"prompt": [{"role": "assistant", "content": "<think>a"}]}',
            "prompt[0]: the thinking block is not closed",
        ),
        (json.dumps(with_call({"a": float("nan")})), "nan is not a number"),
        (json.dumps(with_call({"a": "\ud83d"})), "not valid Unicode"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: str, reason: str):
    file = write(tmp_path, json.dumps(GOOD), line)
    with pytest.raises(ValueError) as caught:
        read_sft_file(file)
    assert str(caught.value).startswith(f"{file}:2: ") and reason in str(caught.value)


def test_all_bad_lines_are_named_at_once(tmp_path: Path):
    file = write(tmp_path, *["{}"] * 30)
    with pytest.raises(ValueError) as caught:
        read_sft_file(file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 10 more bad lines"


@pytest.mark.parametrize("content", ["", None])
def test_a_tool_may_have_nothing_to_say(tmp_path: Path, content: str | None):
    call = {"function": {"name": "look", "arguments": "{}"}}
    prompt = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": content}, *GOOD["prompt"]]
    ((_, messages),) = read_sft_file(write(tmp_path, json.dumps({"prompt": prompt})))
    assert messages[1] == Message(Role.TOOL, content, requestor=Role.ASSISTANT)
    assert rows_from_messages(messages, NATIVE, CharTokenizer(NATIVE)).trained[-1]


def test_an_empty_file_is_no_data(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no conversation"):
        read_sft_file(write(tmp_path, ""))
