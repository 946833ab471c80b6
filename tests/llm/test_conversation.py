"""What is sent back is always something that a strict server takes: unique ids, valid names, texts and not null."""

from __future__ import annotations

import json
import re
from typing import Any

from dialogues import SPECIALS, hostile_text
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.llm.conversation import Conversation
from tau2_exp.llm.replies import Reply
from tau2_exp.types import Message, Role, ToolCall, Usage

names = st.text(min_size=1).filter(str.strip) | st.just("n" * 200)
ids = st.sampled_from(["", "a", "call_1", "functions.look:0", "x" * 90, "a b", "é"])
calls = st.lists(st.builds(ToolCall, names, st.just({"at": 1}), st.just(Role.ASSISTANT), ids), min_size=1, max_size=3)


def strictly_valid(messages: list[dict[str, Any]]) -> None:
    """As OpenAI's API checks a chat, and the servers that are stricter than it."""
    seen: set[str] = set()
    waiting: list[str] = []
    for message in messages:
        message["content"].encode()
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, "a call without its result"
        assert message["content"] or "tool_calls" in message
        for call in message.get("tool_calls", ()):
            assert call["id"] not in seen and len(call["id"]) <= 64
            assert re.fullmatch(r"[A-Za-z0-9_-]+|functions\.[A-Za-z0-9_-]+:\d+", call["id"])
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            seen.add(call["id"])
            waiting.append(call["id"])


@given(turns=st.lists(calls | st.sampled_from(["", "\ud83d", "{cut"]), max_size=4))
def test_whatever_was_called_or_could_not_be_read_is_sent_in_a_valid_form(turns: list[list[ToolCall] | str]) -> None:
    chat = Conversation("Be kind.", Role.ASSISTANT)
    for number, turn in enumerate(turns):
        if isinstance(turn, str):
            chat.say(Reply(None, (), Usage(), turn, error="no turn"))
            chat.hear([Message(Role.TOOL, "Error: no turn", requestor=Role.ASSISTANT, error=True)])
            continue
        chat.say(Reply(None, tuple(turn), Usage(), ""))
        results = [f"{number}.{place}" for place in range(len(turn))]
        chat.hear([Message(Role.TOOL, r, call_id=c.id) for r, c in zip(results, turn, strict=True)])
        sent = {c["id"]: place for place, c in enumerate(chat.messages[-1 - len(turn)]["tool_calls"])}
        answered = [(sent[m["tool_call_id"]], m["content"]) for m in chat.messages[-len(turn) :]]
        assert answered == list(enumerate(results)), "each result goes with its call, also where ids repeat"
    strictly_valid(chat.messages)


@given(text=hostile_text)
def test_no_special_token_is_heard_whoever_wrote_it(text: str) -> None:
    """The server's model may be of any family: its own words stay as they were, and what it hears opens no turn."""
    chat = Conversation("Play the customer.", Role.USER)
    chat.hear([Message(Role.ASSISTANT, f"a{text}")])
    chat.say(Reply(text, (ToolCall("look", {}, Role.USER, "call_1"),), Usage(), text))
    chat.hear([Message(Role.TOOL, text, requestor=Role.USER, call_id="call_1")])
    _, heard, said, result = (message["content"] for message in chat.messages)
    assert not [token for token in SPECIALS if token in heard or token in result]
    assert said == text


def test_an_id_of_the_servers_own_is_kept() -> None:
    chat = Conversation("", Role.ASSISTANT)
    for id in ("call_abc", "functions.look:0", "call_1__thought__aGk+/w=="):
        chat.say(Reply(None, (ToolCall("look", {}, id=id),), Usage(), ""))
        chat.hear([Message(Role.TOOL, "{}", call_id=id)])
        assert chat.messages[-1]["tool_call_id"] == id


def test_the_tools_of_the_other_side_are_not_heard() -> None:
    chat = Conversation("", Role.ASSISTANT)
    call = Message(Role.USER, tool_calls=(ToolCall("look", {}, Role.USER, "u"),))
    result = Message(Role.TOOL, "It is on.", requestor=Role.USER, call_id="u")
    chat.hear([Message(Role.USER, "Hi."), call, result, Message(Role.USER, "It is on, I think.")])
    assert [m["content"] for m in chat.messages[1:]] == ["Hi.", "It is on, I think."]


def test_words_beside_calls_and_thoughts_are_sent_back() -> None:
    chat = Conversation("", Role.ASSISTANT)
    thoughts = {"reasoning_content": "Look first."}
    chat.say(Reply(None, (ToolCall("look", {}, id="a"),), Usage(), "", thoughts))
    assert chat.messages[-1].items() >= {"content": "", **thoughts}.items()
