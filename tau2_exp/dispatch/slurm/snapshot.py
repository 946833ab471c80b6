"""The code as it is now, kept for jobs that begin later: edits made while they wait do not reach them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tau2_exp.system.code import ROOT, is_checkout

# An installed package holds all that it needs.
PARTS = ("tau2_exp", "conf", "run.py", "pyproject.toml") if is_checkout() else ("tau2_exp",)
FOLDER = ".code"  # within `outputs`


def snapshot(outputs: Path) -> Path:
    """The folder of a copy of the code, uncommitted changes included; equal code has one copy."""
    files = {path.relative_to(ROOT): path.read_bytes() for path in _files()}
    copy = outputs.resolve() / FOLDER / _digest(files)
    if copy.exists():
        return copy
    part = copy.with_name(f".{copy.name}.part{os.getpid()}")
    for path, content in files.items():
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        (part / path).write_bytes(content)
    try:
        part.rename(copy)
    except OSError:
        if not copy.exists():
            raise
        shutil.rmtree(part)  # another command was first
    return copy


def _files() -> Iterator[Path]:
    for name in PARTS:
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _digest(files: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
