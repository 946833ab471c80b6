"""Replies of language models, kept by what was asked: what was paid for once is not paid for again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.types import ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. With an `error` (one line for it to read) it is no turn, and says and calls nothing."""

    content: str | None
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    text: str  # as it was written, thoughts included
    thoughts: dict[str, Any] = field(default_factory=dict)  # the fields of the message that its server wants back
    error: str | None = None
    truncated: bool = False


class Replies:
    """One file a reply, in a folder that several processes may share. Holds no keys, and no questions."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, asked: dict[str, Any]) -> Reply | None:
        """The reply to a request, as it was; None where it was never asked, or its file cannot be read."""
        try:
            return decode(Reply, json.loads(self._path(asked).read_text(encoding="ascii")))
        except (OSError, ValueError):
            return None

    def put(self, asked: dict[str, Any], reply: Reply) -> None:
        path = self._path(asked)
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(encode(reply), separators=(",", ":")), encoding="ascii")
        part.replace(path)

    def _path(self, asked: dict[str, Any]) -> Path:
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
