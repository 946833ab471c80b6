"""The code as it is now, kept for jobs that begin later: edits made while they wait do not reach them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tau2_exp.plugins import Plugin
from tau2_exp.plugins.source import source_places
from tau2_exp.system.code import ROOT, is_checkout

# An installed package holds all that it needs.
PARTS = ("tau2_exp", "conf", "run.py", "pyproject.toml") if is_checkout() else ("tau2_exp",)
FOLDER = ".code"  # within `outputs`


def snapshot(outputs: Path, plugins: Iterable[Plugin] = ()) -> Path:
    """The folder of a copy of the code, uncommitted changes included; equal code has one copy.

    With it lies what the user brought, whole packages, but what was installed as libraries are.
    """
    files = {path.relative_to(ROOT): path.read_bytes() for path in _files(ROOT, PARTS)}
    for plugin in plugins:
        if not plugin.installed:
            for place in source_places(plugin.top, f"{plugin.key}={plugin.path}"):
                files |= {
                    path.relative_to(place.parent): path.read_bytes() for path in _files(place.parent, [place.name])
                }
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


def _files(root: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        path = root / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _digest(files: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
