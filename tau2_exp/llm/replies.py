"""Replies of language models, kept by their requests: a reply is paid for once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.files import whole_file
from tau2_exp.types import ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer. One with an `error` (a line for the model to read) is no turn: without content and calls."""

    content: str | None
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    text: str  # as it was written, thoughts included
    thoughts: dict[str, Any] = field(default_factory=dict)  # the fields of the message that its server wants back
    error: str | None = None
    truncated: bool = False


class Replies:
    """Kept replies, one file each, in a folder that several processes may share. Keys and requests are not stored."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, asked: dict[str, Any]) -> Reply | None:
        """The kept reply to a request; None where there is none, or its file cannot be read."""
        try:
            return decode(Reply, json.loads(self._path(asked).read_text(encoding="ascii")))
        except (OSError, ValueError):
            return None

    def put(self, asked: dict[str, Any], reply: Reply) -> None:
        """Keep the reply to a request. Raises OSError."""
        path = self._path(asked)
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps(encode(reply), separators=(",", ":")).encode("ascii"))

    def _path(self, asked: dict[str, Any]) -> Path:
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
