"""No key is written down: of the environment whatever it is called for, of addresses, of known shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tau2_exp.llm.secrets import MASK, holds_secret, masked, secret


def test_values_of_the_environment_that_look_like_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"value/of {name}")
        assert masked(f"<<value/of {name}>>") == f"<<{MASK}>>"
        assert masked(f"q=value%2Fof%20{name}") == f"q={MASK}", "as it stands in an address"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert masked("this is false") == "this is false"


def test_a_folder_is_no_secret_whatever_its_variable_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shell's PWD looks like a password by its name; tracebacks are of files below it."""
    monkeypatch.setenv("PWD", str(tmp_path))
    assert masked(f"{tmp_path}/mine.py, line 3") == f"{tmp_path}/mine.py, line 3"


def test_a_secret_that_was_read_is_masked_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LITTLE_THING", "abc12")
    assert masked("abc12") == "abc12"
    secret("MY_LITTLE_THING")
    assert masked("it was abc12.") == f"it was {MASK}."


@pytest.mark.parametrize("name", ["auth", "code", "api_key", "access_token", "sig", "X-Amz-Signature", "password"])
def test_an_addresss_secrets_are_masked_and_refused_in_settings(name: str) -> None:
    url = f"https://host/v1?a=1&{name}=hidden7&b=2"
    assert masked(f"at {url}: no") == f"at https://host/v1?a=1&{name}={MASK}&b=2: no"
    assert holds_secret(url) and not holds_secret("https://host/v1?a=1&b=2")


def test_passwords_before_a_host_and_keys_by_their_shape_are_masked() -> None:
    assert masked("http://me:pa55@host:8000/v1") == f"http://{MASK}@host:8000/v1"
    assert masked("Authorization: Bearer abcdefgh12345") == f"Authorization: Bearer {MASK}"
    assert masked("key sk-abcdefghijklmnop1234 refused") == f"key {MASK} refused"
    assert masked("mail a@b.c, status_code=400, ratio 1://2") == "mail a@b.c, status_code=400, ratio 1://2"
