"""JSON Lines files that survive a kill: a line is written whole, and readers leave out a last line that was cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tau2_exp.files import naming, whole_file


def read_jsonl(path: Path) -> Iterator[Any]:
    """The records of a file, in order; a last line without its newline was torn by a kill and is left out.

    Raises ValueError naming file and line where a whole line is not JSON.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            yield _read_line(path, number, line)


def read_some(path: Path, count: int) -> Iterator[Any]:
    """At most `count` whole records, evenly spaced from the first on; the others are not parsed."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        total = sum(line.endswith(b"\n") for line in lines)
    chosen = {place * total // count for place in range(count)} if count < total else set(range(total))
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number in chosen:
                yield _read_line(path, number + 1, line)


def _read_line(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}:{number}: not a JSON line ({error})") from None


class JsonlWriter:
    """Appends records to a file, each handed to the operating system at once. Also a context manager."""

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """`keep` truncates to the first so many records (what a checkpoint vouches for); None keeps all whole ones."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")
        self._file.truncate(_end_of_records(path, keep))

    def write(self, record: Any) -> None:
        """Append one record as a line. Raises OSError naming the file."""
        line = json.dumps(record, separators=(",", ":")) + "\n"  # ASCII: half a surrogate pair is text too
        with naming(self._path):
            self._file.write(line.encode())
            self._file.flush()

    def close(self) -> None:
        """Close the file. Raises OSError naming the file."""
        with naming(self._path):
            self._file.close()

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_of_records(path: Path, keep: int | None) -> int:
    """The offset behind the first `keep` whole lines (behind all of them for None)."""
    end = 0
    with path.open("rb") as lines:
        for count, line in enumerate(lines):
            if not line.endswith(b"\n") or count == keep:
                break
            end += len(line)
    return end


def write_json(path: Path, data: Any) -> None:
    """Write the file whole or not at all: a kill leaves the old one or the new one."""
    with whole_file(path) as file:
        file.write(f"{json.dumps(data, indent=2)}\n".encode())


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write the records, one a line; the file is written whole or not at all."""
    with whole_file(path) as file:
        for record in records:
            file.write(f"{json.dumps(record, separators=(',', ':'))}\n".encode())
