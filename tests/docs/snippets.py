"""The fenced snippets of a page, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [content for found, content in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a shell snippet: its line, and its words without variables set before it and comments."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;")
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word in (";", "&&"):
                while words and re.match(r"\w+=", words[0]):
                    words.pop(0)
                if words:
                    yield line, words
                words = []
            else:
                words.append(word)
