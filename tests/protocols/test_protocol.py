"""What is said comes back as it was meant, what is heard opens no turn, and nothing that a model writes raises."""

from __future__ import annotations

import json

import pytest
from dialogues import SPECIALS, CharTokenizer, calls, heard_messages, hostile_text, json_values, plain_words
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import ProtocolName
from tau2_exp.protocols import Protocol, correction, make_protocol
from tau2_exp.protocols.text import neutralise
from tau2_exp.types import GREETING, Message, Role, ToolCall

SINGLE, NATIVE = make_protocol(ProtocolName.single_action), make_protocol(ProtocolName.native)
both = pytest.mark.parametrize("protocol", [SINGLE, NATIVE], ids=["single_action", "native"])
SCHEMA = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


def say(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def use(*made: ToolCall) -> Message:
    return Message(Role.ASSISTANT, tool_calls=made)


def result(text: str) -> Message:
    return Message(Role.TOOL, text, requestor=Role.ASSISTANT)


class TestWhatIsSaid:
    @both
    @given(call=calls)
    def test_a_tool_call_comes_back(self, protocol: Protocol, call: ToolCall):
        parsed = protocol.parse(protocol.write(use(call)))
        assert parsed.error is None and not parsed.done and parsed.message == use(call)

    @given(made=st.lists(calls, min_size=1, max_size=3))
    def test_native_says_several_calls_at_once(self, made: list[ToolCall]):
        assert NATIVE.parse(NATIVE.write(use(*made))).message == use(*made)

    @given(text=hostile_text.filter(str.strip))
    def test_any_words_come_back_from_the_single_action_format(self, text: str):
        assert SINGLE.parse(SINGLE.write(say(text))).message == say(text)

    @given(text=plain_words, done=st.booleans())
    def test_plain_words_come_back_from_the_native_format(self, text: str, done: bool):
        parsed = NATIVE.parse(NATIVE.write(say(text), done))
        assert (parsed.message, parsed.done, parsed.error) == (say(text), done, None)

    @both
    def test_done_comes_back(self, protocol: Protocol):
        parsed = protocol.parse(protocol.write(None, done=True))
        assert (parsed.message, parsed.done, parsed.error) == (None, True, None)

    @both
    @given(call=calls, text=hostile_text.filter(str.strip))
    def test_a_turn_ends_with_its_only_stop(self, protocol: Protocol, call: ToolCall, text: str):
        tokenizer = CharTokenizer(protocol)
        stop = tokenizer.token_id(protocol.stops[0])
        for message in (use(call), say(text)):
            ids = tokenizer.encode(protocol.write(message))
            assert ids[-1] == stop and ids.count(stop) == 1

    def test_the_single_action_format_says_one_thing_a_turn(self):
        call = ToolCall("look", {})
        assert SINGLE.write(use(call)) == '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
        assert SINGLE.write(say("Hi")) == '<tool_call>{"name": "respond", "arguments": {"content": "Hi"}}</tool_call>'
        with pytest.raises(ValueError, match="one message, one tool call or done"):
            SINGLE.write(use(call, call))

    def test_native_is_the_models_own_template(self):
        call = ToolCall("look", {"at": "it"})
        text = '<tool_call>\n{"name": "look", "arguments": {"at": "it"}}\n</tool_call>'
        assert NATIVE.write(use(call, call)) == f"{text}\n{text}<|im_end|>"
        assert NATIVE.write(say("Bye."), done=True) == "Bye. ###STOP###<|im_end|>"


class TestParsing:
    @both
    @given(text=hostile_text)
    def test_arbitrary_text_never_raises(self, protocol: Protocol, text: str):
        parsed = protocol.parse(text)
        assert (parsed.error is None) == (parsed.message is not None or parsed.done)
        assert parsed.error is None or ("\n" not in parsed.error and 0 < len(parsed.error) < 120)

    @both
    @given(call=calls, cut=st.tuples(st.floats(0, 1), st.floats(0, 1)), filling=hostile_text)
    def test_a_damaged_turn_never_raises(
        self, protocol: Protocol, call: ToolCall, cut: tuple[float, float], filling: str
    ):
        text = protocol.write(use(call))
        start, end = sorted(int(c * len(text)) for c in cut)
        parsed = protocol.parse(text[:start] + filling + text[end:])
        assert (parsed.error is None) == (parsed.message is not None or parsed.done)

    @both
    @given(value=json_values)
    def test_any_json_in_a_tool_call_is_judged(self, protocol: Protocol, value: object):
        protocol.parse(f"<tool_call>{json.dumps(value)}</tool_call>")
        parsed = protocol.parse(f'<tool_call>{{"name": "look", "arguments": {json.dumps(value)}}}</tool_call>')
        assert parsed.error is not None or parsed.message is not None

    @both
    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("[" * 100_000, "nested too deeply"),
            ("[" * 100 + "]" * 100, "nested too deeply"),
            ('{"name": "look", "arguments": {"n": %s}}' % ("9" * 5000), "too large"),
            ('{"name": "look", "arguments": {"n": NaN}}', "NaN is not a number"),
            ('{"name": "look", "arguments": {"n": 1e999}}', "1e999 is not a number"),
            ('{"name": "look", "name": "leave"}', "stands twice"),
            ('{"name": "look", "arguments": {"n": "\\ud800"}}', "not valid Unicode"),
            ('{"name": "look", "arguments": {]}', "invalid JSON"),
            ('{"name": 3}', "needs `name`"),
            ('{"name": "look", "arguments": [1]}', "must be a JSON object"),
            ('"look"', "must be a JSON object with"),
        ],
    )
    def test_a_bad_call_says_what_is_wrong(self, protocol: Protocol, body: str, why: str):
        parsed = protocol.parse(f"<tool_call>{body}</tool_call>")
        assert parsed.message is None and not parsed.done and why in (parsed.error or "")

    @both
    def test_a_turn_cut_off_at_its_length_is_unparsable(self, protocol: Protocol):
        assert "not closed" in (protocol.parse('<tool_call>{"name": "look", "argu').error or "")
        assert "thinking" in (protocol.parse("<think>Let me see").error or "")

    @both
    @pytest.mark.parametrize("before", ["", " \n", "<think>Use <tool_call> now?</think>\n", "so I look</think>"])
    @pytest.mark.parametrize("after", ["", "\n", "<|im_end|>", "<|im_end|>\n<|endoftext|>"])
    def test_what_surrounds_a_turn_is_tolerated(self, protocol: Protocol, before: str, after: str):
        text = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
        assert protocol.parse(before + text + after).message == use(ToolCall("look", {}))

    @both
    @given(thoughts=st.lists(plain_words, min_size=1, max_size=3), opened=st.booleans())
    def test_no_thoughts_that_lead_a_turn_are_said(self, protocol: Protocol, thoughts: list[str], opened: bool):
        blocks = "\n\n".join(f"<think>\n{thought}\n</think>" for thought in thoughts)
        words = say("Hello.")
        given_in_prompt = "<think>" if opened else ""
        parsed = protocol.parse(f"{blocks.removeprefix(given_in_prompt)}\n\n{protocol.write(words)}")
        assert parsed.message == words

    @both
    def test_arguments_may_be_missing_or_dumped_twice(self, protocol: Protocol):
        assert protocol.parse('<tool_call>{"name": "look"}</tool_call>').message == use(ToolCall("look", {}))
        twice = '<tool_call>{"name": "look", "arguments": "{\\"at\\": 1}"}</tool_call>'
        assert protocol.parse(twice).message == use(ToolCall("look", {"at": 1}))

    def test_words_beside_native_calls_are_kept_out(self):
        text = 'Let me look. ###STOP###\n<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call><|im_end|>'
        parsed = NATIVE.parse(text)
        assert parsed.message == use(ToolCall("look", {})) and not parsed.done

    def test_the_single_action_format_takes_neither_words_alone_nor_two_calls(self):
        call = SINGLE.write(use(ToolCall("look", {})))
        assert "found 0" in (SINGLE.parse("Hello!").error or "")
        assert "found 2" in (SINGLE.parse(call + call).error or "")
        assert "content" in (SINGLE.parse('<tool_call>{"name": "respond"}</tool_call>').error or "")


class TestWhatIsHeard:
    @both
    @given(heard=st.lists(heard_messages, max_size=5), said=st.none() | calls)
    def test_nobody_smuggles_a_turn(self, protocol: Protocol, heard: list[Message], said: ToolCall | None):
        """The special tokens in what is heard are those of the format, whatever was written."""
        tokenizer = CharTokenizer(protocol)
        before = protocol.write(use(said)) if said else ""
        plain = [Message(m.role, "x", requestor=m.requestor) for m in heard]

        def specials(messages: list[Message], text: str) -> list[int]:
            return [i for i in tokenizer.encode(protocol.observe(messages, text)) if i < len(tokenizer.specials)]

        assert specials(heard, before) == specials(plain, "")

    @given(text=hostile_text)
    def test_neutralising_changes_little_and_only_once(self, text: str):
        assert neutralise(neutralise(text)) == neutralise(text)
        assert not [token for token in SPECIALS if token in neutralise(text)]
        assert neutralise(text).replace("< ", "<").replace("[ ", "[") == text.replace("< ", "<").replace("[ ", "[")

    def test_what_is_no_special_token_is_heard_as_it_was_written(self):
        text = "<b>5 < 6</b> [OK] x[0] <me@example.com> a<b>c List<String> if a < b || c > d"
        assert neutralise(text) == text

    def test_results_follow_the_reference(self):
        said = SINGLE.write(use(ToolCall("look", {"at": "it", "deep": True})))
        assert SINGLE.observe([result("ok")], said) == (
            "<|im_start|>user\nTool result for look(at='it', deep=True):\nok<|im_end|>\n<|im_start|>assistant\n"
        )

    def test_native_results_share_one_message(self):
        assert NATIVE.observe([result("a"), result("b")]) == (
            "<|im_start|>user\n<tool_response>\na\n</tool_response>\n<tool_response>\nb\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    @both
    def test_a_correction_is_heard(self, protocol: Protocol):
        error = protocol.parse("<tool_call>").error or ""
        heard = protocol.observe([correction(error)], "<tool_call>")
        assert f"Error: {error}" in heard and "Tool result" not in heard

    @both
    def test_the_users_own_tools_and_the_greeting_are_not_heard(self, protocol: Protocol):
        own_call = Message(Role.USER, tool_calls=(ToolCall("restart", {}, Role.USER),))
        own_result = Message(Role.TOOL, "restarted", requestor=Role.USER)
        words = Message(Role.USER, "Hello")
        assert protocol.observe([GREETING, own_call, own_result, words]) == protocol.observe([words])

    @both
    def test_a_history_is_heard_with_both_sides(self, protocol: Protocol):
        made = use(ToolCall("look", {}))
        heard = protocol.observe(
            [Message(Role.USER, "Hi"), made, result("found"), say("There."), Message(Role.USER, "?")]
        )
        assert heard.count("<|im_start|>assistant\n") == 3
        assert heard.index("Hi") < heard.index(protocol.write(made)) < heard.index("found") < heard.index("There.")
        assert heard.count("<|im_start|>") == heard.count("<|im_end|>") + 1

    @both
    def test_a_turn_is_closed_however_it_ended(self, protocol: Protocol):
        for text in (protocol.write(say("Hi")), "cut of", "Hi<|im_end|>", ""):
            closed = text + protocol.close(text)
            assert closed.endswith("<|im_end|>\n") and closed.count("<|im_end|>") == 1


class TestSystem:
    @both
    def test_tools_are_named_only_with_schemas(self, protocol: Protocol):
        assert protocol.system("Be kind.", None) == "<|im_start|>system\nBe kind.<|im_end|>\n"
        assert '"name": "look"' in protocol.system("Be kind.", [SCHEMA])
        assert "tool" not in protocol.system("", None)

    def test_respond_and_done_are_among_the_tools(self):
        text = SINGLE.system("Be kind.", [SCHEMA])
        tools = [json.loads(line) for line in text.split("# Tools\n")[1].removesuffix("<|im_end|>\n").splitlines()]
        assert [tool["name"] for tool in tools] == ["look", "respond", "done"]
