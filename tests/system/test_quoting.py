"""Whatever text a value is, it is that text in the language that it crosses into."""

from __future__ import annotations

import subprocess

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tau2_exp.system.quoting import override, setting, shell, shell_comment

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@given(TEXT)
@example("a b ü")
@example("it's\\")
@example("2025_11_26")
@example("null")
@example("a\nb; touch x")
def test_hydra_reads_an_override_as_it_was(text: str) -> None:
    read = OverridesParser.create().parse_override(override("name", text)).value()
    assert str(read) == text and isinstance(read, str)


@settings(max_examples=settings().max_examples // 5)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_a_shell_reads_a_command_as_it_was(words: list[str]) -> None:
    script = shell(["printf", r"%s\0", *words])
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def test_a_comment_is_one_line_whatever_is_in_it() -> None:
    script = shell_comment("name=x\ntouch /tmp/y\r\u2028echo pasted")
    assert subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout == b""
    assert "\n" not in script and "\r" not in script


def test_a_setting_is_typed_as_it_is_shown() -> None:
    assert setting("resume", "outputs/first") == "resume=outputs/first"
    assert setting("resume", "outputs/a b") == """'resume='"'"'outputs/a b'"'"''"""
