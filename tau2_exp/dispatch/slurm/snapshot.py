"""The code as it is now, kept for jobs that begin later: edits made while they wait do not reach them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tau2_exp.files import clear_leftovers, is_part, whole_folder

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("tau2_exp", "conf", "run.py", "pyproject.toml")  # those that are there: an installed package stands alone
FOLDER = ".code"  # within `outputs`


def snapshot(outputs: Path) -> Path:
    """The folder of a copy of the code, uncommitted changes included; equal code has one copy."""
    files = {path.relative_to(ROOT): path.read_bytes() for path in _files()}
    copy = outputs.resolve() / FOLDER / _digest(files)
    clear_leftovers(copy.parent)
    if copy.exists():
        return copy
    with suppress(FileExistsError), whole_folder(copy) as part:  # another command may be first
        for path, content in files.items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(content)
    return copy


def _files() -> Iterator[Path]:
    for name in PARTS:
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and not _is_passing(file.relative_to(ROOT)))


def _is_passing(path: Path) -> bool:
    """What Python, or a killed command, left beside the code."""
    return any(name == "__pycache__" or is_part(Path(name)) for name in path.parts)


def _digest(files: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
