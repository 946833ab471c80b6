"""What tests of conversations share: a tokenizer of characters, and strategies for messages and trajectories."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

from tau2_exp.config import ProtocolName
from tau2_exp.protocols import Protocol, make_protocol
from tau2_exp.types import (
    GREETING,
    Fault,
    FaultSource,
    Message,
    Parts,
    Role,
    StopReason,
    TokenSpan,
    ToolCall,
    Trajectory,
    Turn,
    Usage,
    Verdict,
)


class CharTokenizer:
    """One id a character; special tokens first, recognised wherever their text stands, as real tokenizers do."""

    def __init__(self, protocol: Protocol):
        self.specials = list(protocol.specials)
        self._split = re.compile("(" + "|".join(map(re.escape, self.specials)) + ")")

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in self._split.split(text):
            if piece in self.specials:
                ids.append(self.specials.index(piece))
            else:
                ids.extend(ord(char) + len(self.specials) for char in piece)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        known = len(self.specials)
        return "".join(self.specials[i] if i < known else chr(i - known) for i in ids)

    chat_template = None

    def token_id(self, token: str) -> int | None:
        return self.specials.index(token) if token in self.specials else None


FAMILIES = (  # special tokens of chat templates that are not ChatML
    *("<|start_header_id|>", "<|eot_id|>", "<|turn>", "<turn|>", "<｜User｜>", "<｜tool▁calls▁begin｜>", "<s>", "</s>"),
    *("<<SYS>>", "<</SYS>>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<EOS_TOKEN>", "[INST]", "[/INST]"),
    *("[TOOL_CALLS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]"),
)
SPECIALS = (*make_protocol(ProtocolName.native).specials, "<think>", "</think>", *FAMILIES)
tags = st.sampled_from([*SPECIALS, "###STOP###", "<", "|im_end|>", "[", "\n"])
hostile_text = st.lists(st.one_of(st.text(max_size=10), tags), max_size=6).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | hostile_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
tool_names = st.text(min_size=1, max_size=12).filter(lambda name: name.strip() and name not in ("respond", "done"))
calls = st.builds(ToolCall, tool_names, arguments)
plain_words = (
    st.text(min_size=1, max_size=30).map(str.strip).filter(lambda text: text and "<" not in text and "###" not in text)
)
heard_messages = st.one_of(
    st.builds(Message, st.just(Role.USER), hostile_text),
    st.builds(Message, st.just(Role.TOOL), hostile_text, requestor=st.just(Role.ASSISTANT), error=st.booleans()),
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
fractions = st.none() | st.floats(0, 1)
parts = st.builds(Parts, fractions, fractions, fractions, fractions, fractions)
messages = st.builds(
    Message,
    st.sampled_from(Role),
    st.none() | hostile_text,
    st.lists(st.builds(ToolCall, tool_names, arguments, st.sampled_from(Role), st.text(max_size=4)), max_size=2).map(
        tuple
    ),
    st.none() | st.sampled_from(Role),
    st.booleans(),
    st.text(max_size=4),
)


@st.composite
def spans(draw: st.DrawFn) -> TokenSpan:
    context = draw(st.lists(st.integers(0, 9), max_size=5))
    sampled = draw(st.lists(st.tuples(st.integers(0, 9), st.floats(-9, 0)), max_size=5))
    return TokenSpan(tuple(context), tuple(i for i, _ in sampled), tuple(p for _, p in sampled))


def make_turns(tokens: st.SearchStrategy[TokenSpan | None]) -> st.SearchStrategy[Turn]:
    return st.builds(
        Turn,
        text=hostile_text,
        messages=st.lists(messages, max_size=3).map(tuple),
        parts=parts,
        done=st.booleans(),
        error=st.none() | st.text(max_size=5),
        tokens=tokens,
        changes=st.dictionaries(st.text(max_size=5), json_values, max_size=2),
        policy_seconds=numbers,
    )


def make_trajectories(tokens: st.SearchStrategy[TokenSpan | None]) -> st.SearchStrategy[Trajectory]:
    verdicts = st.builds(
        Verdict,
        reward=st.floats(0, 1),
        breakdown=st.dictionaries(st.text(max_size=4), st.floats(0, 1), max_size=2),
        db_match=st.none() | st.booleans(),
        action_checks=st.lists(st.booleans(), max_size=3).map(tuple),
    )
    return st.builds(
        Trajectory,
        task=st.text(max_size=5),
        domain=st.sampled_from(["telecom", "retail"]),
        sample=st.integers(0, 9),
        seed=st.integers(0, 2**63 - 1),
        opening=st.lists(messages, max_size=3).map(tuple),
        turns=st.lists(make_turns(tokens), max_size=3).map(tuple),
        stop=st.sampled_from(StopReason),
        verdict=st.none() | verdicts,
        initial=parts,
        fault=st.none() | st.builds(Fault, st.sampled_from(FaultSource), st.text(max_size=5)),
        user_usage=st.builds(Usage, st.integers(0, 99), st.integers(0, 99), st.floats(0, 1)),
    )


def make_trajectory(
    *turns: Turn,
    task: str = "t",
    domain: str = "retail",
    stop: StopReason = StopReason.AGENT_STOP,
    reward: float = 0.0,
    initial: Parts | None = None,
    fault: Fault | None = None,
) -> Trajectory:
    opening = (GREETING, Message(Role.USER, "My bill is wrong."))
    verdict = None if fault else Verdict(reward)
    initial = initial or Parts()
    return Trajectory(task, domain, 0, 0, opening, turns, stop, verdict, initial, fault)
