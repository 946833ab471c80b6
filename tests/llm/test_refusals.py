"""A server that says in its own words that the context is full is understood, and no other refusal is taken for it."""

from __future__ import annotations

import pytest

from tau2_exp.llm.refusals import is_context_full

FULL = (
    "This model's maximum context length is 8 tokens. However, your messages resulted in 9 tokens.",
    "Requested token count exceeds the model's maximum context length of 8 tokens.",
    "The input (9 tokens) is longer than the model's context length (8 tokens)",
    "Input length (9) exceeds model's maximum context length (8).",
    "The decoder prompt (length 9) is longer than the maximum model length of 8.",
    "the request exceeds the available context size",
    "Requested tokens (9) exceed context window of 8",
    "Prompt of 9 tokens, too large for model with 8 maximum context length",
    "max_tokens must be at least 1, got -1.",
    "prompt is too long: 9 tokens > 8 maximum",
    "Input is too long for requested model.",
    "The input token count (9) exceeds the maximum number of tokens allowed (8).",
    "too many tokens: total number of tokens in the prompt cannot exceed 8",
    "`inputs` tokens + `max_new_tokens` must be <= 8. Given: 9",
    "Range of input length should be [1, 8]",
    "Invalid request: Your request exceeded model token limit: 8",
    "Please reduce the length of the messages or completion.",
)
ELSE = (
    "max_tokens is too large: 40000. This model supports at most 16384 completion tokens",
    "Rate limit reached: too many tokens per minute",
    "no such parameter: seed",
    "temperature must be at most 2",
    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
)


@pytest.mark.parametrize("text", FULL)
def test_a_full_context_is_known_in_the_servers_words(text: str) -> None:
    assert is_context_full(text)


@pytest.mark.parametrize("text", ELSE)
def test_other_refusals_are_not_a_full_context(text: str) -> None:
    assert not is_context_full(text)
