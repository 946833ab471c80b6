"""A tokenizer whose tokens are phrases; special tokens are spoken by the house alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import ConfigError
from tau2_exp.engines.torch.tokenizer import load_tokenizer, train_tokenizer

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXTS = [
    f"<|im_start|>user\nPlease turn on {what}, then tell me. Thank you | ok<|im_end|>\n"
    for what in ("airplane mode", "roaming", "mobile data", "airplane mode again")
] * 4
TOKENIZER = train_tokenizer(TEXTS, 500, SPECIALS)


@given(st.text())
def test_any_text_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_phrase_is_one_token_and_no_token_crosses_a_border():
    assert len(TOKENIZER.encode("then tell me")) == 1
    texts = [TOKENIZER.decode([i]) for i in range(TOKENIZER.size)]
    for border in ("\n", ", ", ". ", " | "):
        assert all(text == border or border not in text for text in texts)


def test_special_tokens_have_ids_of_their_own():
    assert TOKENIZER.encode("<|im_end|>") == [TOKENIZER.token_id("<|im_end|>")] == [2]
    assert TOKENIZER.token_id("<|nobody|>") is None


def test_the_same_texts_give_the_same_tokenizer_within_its_bound():
    again = train_tokenizer(TEXTS, 500, SPECIALS)
    assert again.files() == TOKENIZER.files()
    assert train_tokenizer(TEXTS, 270, SPECIALS).size == 270


def test_it_is_saved_and_loaded(tmp_path):
    for name, content in TOKENIZER.files().items():
        (tmp_path / name).write_text(content)
    assert load_tokenizer(tmp_path).files() == TOKENIZER.files()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
