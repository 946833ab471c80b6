"""A file is written whole by whoever writes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tau2_exp.jsonl import write_json


def test_two_processes_that_write_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one writes it all between our first byte and our last."""
    path, dump = tmp_path / "progress.json", json.dump

    def interrupted(data: Any, file: Any, **settings: Any) -> None:
        monkeypatch.setattr(json, "dump", dump)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 0)
            write_json(path, ["theirs"])
        dump(data, file, **settings)

    monkeypatch.setattr(json, "dump", interrupted)
    write_json(path, ["ours"])
    assert json.loads(path.read_text()) == ["ours"] and [*tmp_path.iterdir()] == [path]
