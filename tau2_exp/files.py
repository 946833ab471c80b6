"""Files and folders that are written whole or not at all, also under concurrent writers and kills.

What is being made is a *part* beside its place, under a name that no other process uses, and its maker holds a lock on
it. A part without a lock was left by a kill: `clear_leftovers` removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Also those of earlier versions, whose names ended in a process number, or in nothing.
_PART = re.compile(r"\..+\.part(-[0-9a-f]{16}|\d*)", re.DOTALL)
_YOUNG = 60.0  # seconds: an empty part of that age may be one whose maker has not locked it yet


def part_of(path: Path) -> Path:
    """A name beside `path` for what is to take its place: no longer than a file's name may be, and used by nobody."""
    return path.with_name(f".{path.name[:40]}.part-{secrets.token_hex(8)}")


def is_part(path: Path) -> bool:
    """Whether the path has the name of a part."""
    return _PART.fullmatch(path.name) is not None


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block ends well, and is on disk then.

    Raises OSError, which names the file.
    """
    part = part_of(path)
    with naming(path):
        try:
            with part.open("xb") as file:
                _lock(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, replaces: Callable[[], None] | None = None, mode: int = 0o777) -> Iterator[Path]:
    """A folder to fill, of that mode less the umask, which is renamed to `path` when the block ends well.

    With `replaces` it takes the place of what is there, if that call does not raise. Else it raises FileExistsError
    where `path` is there by then; and any other OSError, which names a file.
    """
    part = part_of(path)
    with naming(path):
        part.mkdir(mode=mode, parents=True)
        handle = os.open(part, os.O_RDONLY)
        try:
            _lock(handle)
            yield part
            if replaces is not None and path.exists():
                replaces()
                shutil.rmtree(path)
            _take_place(part, path)
        finally:
            os.close(handle)
            shutil.rmtree(part, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove the parts in `folder` whose makers were killed. Call it where `folder` is about to be written to."""
    with suppress(OSError):  # a folder that cannot be read or written says so to whoever needs it
        for path in [path for path in folder.iterdir() if is_part(path)]:
            with suppress(OSError):
                _clear(path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError from within names a file: that which it is about, or `path` for its part (a full disk names none)."""
    try:
        yield
    except OSError as error:
        about = error.filename
        if error.errno is None or (about is not None and not is_part(Path(os.fsdecode(about)))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _take_place(part: Path, path: Path) -> None:
    if path.is_symlink() or path.exists():
        raise FileExistsError(17, "there is something of that name already", str(path))
    try:
        part.rename(path)
    except OSError:
        if path.exists():  # another process was first
            raise FileExistsError(17, "there is something of that name already", str(path)) from None
        raise


def _clear(path: Path) -> None:
    told = path.lstat()
    if stat.S_ISLNK(told.st_mode):
        path.unlink()
        return
    is_folder = stat.S_ISDIR(told.st_mode)
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        empty = not any(path.iterdir()) if is_folder else told.st_size == 0
        if empty and time.time() - told.st_mtime < _YOUNG:
            return
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    with suppress(OSError):  # a file system without locks: there, nobody can tell a leftover, and none is removed
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
