"""What in a folder that a person named is ours to replace: the names that a note in it lists, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.jsonl import write_json

NOTE = ".tau2_exp"


def refuse_strangers(folder: Path, names: Iterable[str], option: str) -> None:
    """Raises ConfigError where one of these names is in `folder` already and no earlier command of ours made it."""
    made = _made(folder)
    for name in names:
        if name not in made and name != NOTE and (folder / name).exists():
            raise ConfigError(f"{option}: {folder / name} was not made by this command; move it, or name another place")


def note(folder: Path, names: Iterable[str]) -> None:
    """Add these names to the note in `folder` that lists what this program made there."""
    listed = sorted({*_made(folder), *names})
    write_json(folder / NOTE, {"made by": "python -m tau2_exp, which replaces these", "names": listed})


def _made(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / NOTE).read_text())["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
