"""The native format follows a model's own chat template: before each turn the context is what the template says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from dialogues import plain_words
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.config import ModelConfig, ProtocolName
from tau2_exp.protocols import protocol_of
from tau2_exp.protocols.native import Native
from tau2_exp.protocols.template import TemplateError, TemplateNative, as_template, renderer
from tau2_exp.types import Message, Role, ToolCall

pytest.importorskip("transformers")

QWEN3 = Path(__file__).parents[3] / "shared/models/qwen3-tokenizer/tokenizer_config.json"
EMPTY_THOUGHTS = "<think>\n\n</think>\n\n"
SMOLLM2 = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\n\n' }}{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}"
    "{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
)
SCHEMAS = [{"type": "function", "function": {"name": "get", "description": "x", "parameters": {"type": "object"}}}]

names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name not in ("respond", "done"))
calls = st.builds(ToolCall, names, st.dictionaries(plain_words, st.one_of(st.integers(), plain_words), max_size=2))
acted = st.one_of(
    st.builds(Message, st.just(Role.ASSISTANT), plain_words),
    st.builds(lambda made: Message(Role.ASSISTANT, tool_calls=tuple(made)), st.lists(calls, min_size=1, max_size=3)),
)


def qwen3_template() -> str:
    if not QWEN3.is_file():
        pytest.skip("needs ../shared/models/qwen3-tokenizer, the published chat template")
    return json.loads(QWEN3.read_text())["chat_template"]


def answers(message: Message) -> list[Message]:
    if not message.tool_calls:
        return [Message(Role.USER, "and then?")]
    return [Message(Role.TOOL, f"result {i}", requestor=Role.ASSISTANT) for i in range(len(message.tool_calls))]


@pytest.mark.parametrize("thinking", [False, True])
@settings(max_examples=25, deadline=None)
@given(turns=st.lists(acted, max_size=5), shown=st.booleans())
def test_before_every_turn_the_context_is_the_templates(thinking, turns, shown):
    render = renderer(qwen3_template(), {}, thinking)
    protocol, schemas = TemplateNative(render), SCHEMAS if shown else None
    context, said = protocol.system("The policy.", schemas), ""
    history = [protocol._system("The policy.", schemas)]
    heard = [Message(Role.USER, "Good day.")]
    for turn in [*turns, None]:
        context += (protocol.close(said) if said else "") + protocol.observe(heard, said)
        history += [entry for message in heard for entry in protocol._entries(message)]
        expected = render(history, schemas, True)
        assert context.replace(EMPTY_THOUGHTS, "") == expected.replace(EMPTY_THOUGHTS, "")
        assert context.endswith(EMPTY_THOUGHTS) is not thinking, "thoughts are switched off by an empty block"
        if turn is None:
            break
        said = protocol.write(turn)
        assert protocol.parse(said).message == turn
        context += said
        history.append(as_template(turn))
        heard = answers(turn)


@settings(max_examples=25, deadline=None)
@given(st.lists(plain_words, min_size=1, max_size=3))
def test_hand_written_chatml_says_the_same_words_as_a_template_without_tools(words):
    """SmolLM2's template knows no tools: words alone are what both can say."""
    render = renderer(SMOLLM2, {}, False)
    native = Native()
    context = native.system("The policy.", None) + native.observe([Message(Role.USER, text) for text in words])
    messages = [("system", "The policy."), *(("user", text) for text in words)]
    assert context == render([{"role": role, "content": text} for role, text in messages], None, True)


@pytest.mark.parametrize(
    ("template", "why"),
    [(SMOLLM2, "names no tools"), (LLAMA3, "another format"), ("{{ raise_exception('no') }}", "no")],
)
def test_a_template_that_native_cannot_follow_is_named(template, why):
    with pytest.raises(TemplateError, match=why):
        TemplateNative(renderer(template, {}, False))


class Known:
    """A tokenizer of a model with this template, that knows these special tokens."""

    def __init__(self, template: str | None, *tokens: str):
        self.chat_template, self.tokens = template, tokens

    def token_id(self, token: str) -> int | None:
        return self.tokens.index(token) if token in self.tokens else None


def test_a_model_follows_its_own_template_and_its_own_tokens():
    native, single = (
        ModelConfig("m", protocol=name, schemas=False) for name in (ProtocolName.native, ProtocolName.single_action)
    )
    assert type(protocol_of(native, Known(qwen3_template()))) is TemplateNative
    assert type(protocol_of(native, Known(None))) is Native
    assert type(protocol_of(native, Known(SMOLLM2))) is Native, "words alone: ours are the template's"
    with pytest.raises(TemplateError, match="names no tools"):
        protocol_of(replace(native, schemas=True), Known(SMOLLM2))
    action = Message(Role.ASSISTANT, tool_calls=(ToolCall("get", {}),))
    for known, end in ((("</tool_call>",), "</tool_call>"), ((), "<|im_end|>")):
        protocol = protocol_of(single, Known(SMOLLM2, *known))
        written = protocol.write(action)
        assert written.endswith(end) and end in protocol.stops and protocol.parse(written).message == action
        assert (written + protocol.close(written)).count("<|im_end|>") == 1
