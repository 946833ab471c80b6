"""What is trained on is, id for id, what was sampled; and a dialogue has the same ids by every way into a row."""

from __future__ import annotations

import dataclasses

import pytest
from dialogues import CharTokenizer, calls, hostile_text, make_trajectories, make_trajectory, plain_words, spans
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import ProtocolName
from tau2_exp.learning import batch
from tau2_exp.learning.sft_data import messages_from_prompt
from tau2_exp.protocols import Protocol, correction, make_protocol
from tau2_exp.types import (
    Branch,
    Message,
    Role,
    Row,
    TokenSpan,
    ToolCall,
    Trajectory,
    Turn,
)

SINGLE, NATIVE = make_protocol(ProtocolName.single_action), make_protocol(ProtocolName.native)
both = pytest.mark.parametrize("protocol", [SINGLE, NATIVE], ids=["single_action", "native"])
LOOK = Message(Role.ASSISTANT, tool_calls=(ToolCall("look", {"at": "bill"}),))
FOUND = Message(Role.TOOL, "found", requestor=Role.ASSISTANT)
BYE = Message(Role.ASSISTANT, "It is paid.")
THANKS = Message(Role.USER, "Thanks")
DIALOGUE = make_trajectory(Turn("", (LOOK, FOUND)), Turn("", (BYE, THANKS)), Turn("", (), done=True))


def live(trajectory: Trajectory, protocol: Protocol, texts: list[str]) -> Trajectory:
    """The trajectory as a live policy that says `texts` would have recorded it."""
    tokenizer = CharTokenizer(protocol)
    transcript = batch.Transcript(protocol, tokenizer)
    pending = transcript.start("Be kind.", None)
    heard, turns = trajectory.opening[-1:], []
    for turn, text in zip(trajectory.turns, texts, strict=True):
        context, sampled = [*pending, *transcript.hear(heard)], tokenizer.encode(text)
        transcript.say(sampled)
        span = TokenSpan(tuple(context), tuple(sampled), tuple(-0.5 - i for i in range(len(sampled))))
        turns.append(dataclasses.replace(turn, text=text, tokens=span))
        pending = []
        heard = (correction(turn.error),) if turn.error else turn.messages[1:]
    return dataclasses.replace(trajectory, turns=tuple(turns))


def trained_text(row: Row, protocol: Protocol) -> str:
    return CharTokenizer(protocol).decode([i for i, on in zip(row.ids, row.trained, strict=True) if on])


class TestSampledRows:
    @given(data=st.data(), trajectory=make_trajectories(spans()))
    def test_what_is_trained_on_is_what_was_sampled(self, data: st.DataObject, trajectory: Trajectory):
        advantages = data.draw(
            st.lists(st.floats(-2, 2), min_size=len(trajectory.turns), max_size=len(trajectory.turns))
        )
        row = batch.rows_from_trajectory(trajectory, advantages)
        taken = [t.tokens for t in trajectory.turns if t.tokens]
        assert row.ids == sum((t.context + t.sampled for t in taken), ())
        assert len(row.ids) == len(row.trained) == len(row.log_probs) == len(row.advantages)
        trained = [i for i, on in enumerate(row.trained) if on]
        assert tuple(row.ids[i] for i in trained) == sum((t.sampled for t in taken), ())
        assert tuple(row.log_probs[i] for i in trained) == sum((t.log_probs for t in taken), ())
        credit = [a for a, t in zip(advantages, taken, strict=True) for _ in t.sampled]
        assert [row.advantages[i] for i in trained] == credit
        untrained = [i for i, on in enumerate(row.trained) if not on]
        assert all(row.log_probs[i] == row.advantages[i] == 0 for i in untrained)

    def test_unparsable_turns_are_the_agents_but_not_examples(self):
        good = Turn("", (LOOK,), tokens=TokenSpan((1,), (2, 3), (-0.1, -0.2)))
        bad = Turn("", (), error="why", tokens=TokenSpan((4,), (5,), (-0.3,)))
        trajectory = make_trajectory(good, bad)
        assert batch.rows_from_trajectory(trajectory, [1, 1]).trained == (False, True, True, False, True)
        example = batch.rows_from_trajectory(trajectory, [1, 1], unparsable=False)
        assert example.trained == (False, True, True, False, False) and example.ids == (1, 2, 3, 4, 5)
        assert example.log_probs[-1] == example.advantages[-1] == 0

    @given(data=st.data(), trajectory=make_trajectories(spans()))
    def test_a_continuations_prefix_is_context(self, data: st.DataObject, trajectory: Trajectory):
        first = data.draw(st.integers(0, len(trajectory.turns)))
        row = batch.rows_from_trajectory(
            dataclasses.replace(trajectory, branch=Branch(0, first, 0)), [1.0] * len(trajectory.turns)
        )
        whole = batch.rows_from_trajectory(trajectory, [1.0] * len(trajectory.turns))
        prefix = sum(len(t.tokens.context + t.tokens.sampled) for t in trajectory.turns[:first] if t.tokens)
        assert row.ids == whole.ids and not any(row.trained[:prefix])
        assert row.trained[prefix:] == whole.trained[prefix:] and row.log_probs[prefix:] == whole.log_probs[prefix:]

    def test_a_turn_without_tokens_is_named(self):
        with pytest.raises(ValueError, match="retail/t: turn 0 has no token record"):
            batch.rows_from_trajectory(make_trajectory(Turn("", (LOOK,))), [1.0])


class TestOnePath:
    def test_a_dialogue_is_chatml_from_end_to_end(self):
        row = batch.rows_from_demonstration(DIALOGUE, NATIVE, CharTokenizer(NATIVE), "Be kind.", None)
        assert CharTokenizer(NATIVE).decode(row.ids) == (
            "<|im_start|>system\nBe kind.<|im_end|>\n"
            "<|im_start|>user\nMy bill is wrong.<|im_end|>\n"
            '<|im_start|>assistant\n<tool_call>\n{"name": "look", "arguments": {"at": "bill"}}\n</tool_call>'
            "<|im_end|>\n"
            "<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\nIt is paid.<|im_end|>\n"
            "<|im_start|>user\nThanks<|im_end|>\n"
            "<|im_start|>assistant\n###STOP###<|im_end|>"
        )
        single = batch.rows_from_demonstration(DIALOGUE, SINGLE, CharTokenizer(SINGLE), "Be kind.", None)
        assert "</tool_call><|im_end|>\n<|im_start|>user\n" in CharTokenizer(SINGLE).decode(single.ids)

    @both
    def test_a_demonstration_has_the_ids_of_a_live_episode(self, protocol: Protocol):
        texts = [protocol.write(LOOK), protocol.write(BYE), protocol.write(None, done=True)]
        sampled = batch.rows_from_trajectory(live(DIALOGUE, protocol, texts), [1.0] * 3)
        shown = batch.rows_from_demonstration(DIALOGUE, protocol, CharTokenizer(protocol), "Be kind.", None)
        assert (shown.ids, shown.trained, shown.advantages) == (sampled.ids, sampled.trained, sampled.advantages)
        assert set(shown.log_probs) == {0.0}

    @both
    @given(words=st.lists(plain_words, min_size=2, max_size=2), call=calls, result=hostile_text, answer=hostile_text)
    def test_so_has_any(self, protocol: Protocol, words: list[str], call: ToolCall, result: str, answer: str):
        use = Message(Role.ASSISTANT, tool_calls=(call,))
        said = [Message(Role.ASSISTANT, text) for text in words]
        own_call = Message(Role.USER, tool_calls=(ToolCall("restart", {}, Role.USER),))
        own_result = Message(Role.TOOL, result, requestor=Role.USER)
        trajectory = make_trajectory(
            Turn("", (said[0], own_call, own_result, Message(Role.USER, answer))),
            Turn("", (use, Message(Role.TOOL, result, requestor=Role.ASSISTANT, error=True))),
            Turn("", (said[1], THANKS)),
        )
        texts = [protocol.write(message) for message in (said[0], use, said[1])]
        sampled = batch.rows_from_trajectory(live(trajectory, protocol, texts), [1.0] * 3)
        shown = batch.rows_from_demonstration(trajectory, protocol, CharTokenizer(protocol), "Be kind.", None)
        assert (shown.ids, shown.trained) == (sampled.ids, sampled.trained)

    @both
    def test_an_unparsable_turn_of_a_demonstration_is_context(self, protocol: Protocol):
        text, why = "<tool_call>{", "a tool call is not closed"
        trajectory = make_trajectory(Turn(text, (), error=why), Turn("", (BYE, THANKS)))
        sampled = batch.rows_from_trajectory(
            live(trajectory, protocol, [text, protocol.write(BYE)]), [1.0] * 2, unparsable=False
        )
        shown = batch.rows_from_demonstration(trajectory, protocol, CharTokenizer(protocol), "Be kind.", None)
        assert (shown.ids, shown.trained) == (sampled.ids, sampled.trained)
        assert trained_text(shown, protocol) == protocol.write(BYE)

    @both
    def test_openai_messages_have_them_too(self, protocol: Protocol):
        call = {"function": {"name": "look", "arguments": '{"at": "bill"}'}}
        prompt = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "My bill is wrong."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "found"},
            {"role": "assistant", "content": "It is paid."},
        ]
        row = batch.rows_from_messages(messages_from_prompt(prompt), protocol, CharTokenizer(protocol))
        cut = dataclasses.replace(DIALOGUE, turns=DIALOGUE.turns[:2])
        shown = batch.rows_from_demonstration(cut, protocol, CharTokenizer(protocol), "Be kind.", None)
        assert row == shown

    def test_the_references_format_is_kept_as_it_is_or_translated(self):
        said = 'I look.\n<tool_call>\n{"name":"respond","arguments":{"content":"Hi"}}\n</tool_call>'
        prompt = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": said + "\n"}]
        messages = messages_from_prompt(prompt)
        kept = batch.rows_from_messages(messages, SINGLE, CharTokenizer(SINGLE))
        translated = batch.rows_from_messages(messages, NATIVE, CharTokenizer(NATIVE))
        assert trained_text(kept, SINGLE) == said
        assert trained_text(translated, NATIVE) == "Hi<|im_end|>"

    @both
    @pytest.mark.parametrize("thoughts", ["<think>private</think>\n\n", "private</think>"])
    def test_thoughts_are_not_taught_as_words(self, protocol: Protocol, thoughts: str):
        messages = messages_from_prompt([{"role": "assistant", "content": f"{thoughts}Hello."}])
        row = batch.rows_from_messages(messages, protocol, CharTokenizer(protocol))
        assert protocol.parse(trained_text(row, protocol)).message == Message(Role.ASSISTANT, "Hello.")
        assert "private" not in trained_text(row, protocol)

    @both
    def test_a_call_in_the_words_that_nothing_can_read_is_refused(self, protocol: Protocol):
        bad = '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'
        messages = messages_from_prompt([{"role": "assistant", "content": bad}])
        with pytest.raises(ValueError, match="an assistant message: NaN is not a number"):
            batch.rows_from_messages(messages, protocol, CharTokenizer(protocol))
