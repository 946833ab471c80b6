"""The trajectories of a run's folder: one line an episode, in trajectories/NAME.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.jsonl import JsonlWriter, read_jsonl, read_some
from tau2_exp.types import Trajectory

FOLDER = "trajectories"  # of a run's folder


class TrajectoryWriter:
    """Appends trajectories to one of a run's files."""

    def __init__(self, path: Path, keep: int | None) -> None:
        self._lines = JsonlWriter(path, keep)

    def write(self, trajectory: Trajectory) -> None:
        """Append one trajectory. Raises OSError naming the file."""
        self._lines.write(encode(trajectory))

    def close(self) -> None:
        """Close the file. Raises OSError naming the file."""
        self._lines.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TrajectoryFiles:
    """The files of one run, by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files that are there."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.jsonl")))

    def writer(self, name: str, keep: int | None) -> TrajectoryWriter:
        """Append to a file, behind its first `keep` lines (None: all)."""
        return TrajectoryWriter(self._path(name), keep)

    def read(self, name: str) -> Iterator[Trajectory]:
        """The episodes of a file in order; none where it is not there."""
        for record in read_jsonl(self._path(name)):
            yield decode(Trajectory, record)

    def some(self, name: str, count: int) -> list[Trajectory]:
        """So many episodes of a file, evenly spaced."""
        return [decode(Trajectory, record) for record in read_some(self._path(name), count)]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"
