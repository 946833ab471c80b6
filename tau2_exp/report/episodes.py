"""Episode data beside the page: an index of all episodes in a few numbers each, and the episodes whole in chunks.

A page that is opened from disk can load scripts, but read no files. So `index.js` and `00000.js`, `00001.js`, … are
scripts of one line, `tau2_episodes("NAME", DATA)`. The index is JSON, there at once. Of a chunk the JSON is deflated
(zlib) and in base64: 10,000 episodes take some fifteen megabytes.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tau2_exp.files import clear_leftovers, whole_folder
from tau2_exp.report.checks import Lookup, task_criteria
from tau2_exp.report.trials import Found
from tau2_exp.report.viewer_episode import Told, episode_record, read_told
from tau2_exp.runs.run import Run
from tau2_exp.system.ours import note, refuse_strangers
from tau2_exp.types import Trajectory

CHUNK = 32  # episodes, at least; a group of GRPO lies in one
_EXACT = 2**53  # a browser's numbers are exact below this
_NAMED = ("task", "stop", "fault", "modes")  # columns of the index that hold places in its lists of names
_NUMBERS = ("sample", "step", "outcome", "shaped", "turns")
Modes = Callable[[Trajectory, Path], Sequence[str]]  # failure modes of an episode in a run's folder


def write_episodes(
    runs: Iterable[Found],
    folder: Path,
    modes: Modes,
    criteria: Lookup = task_criteria,
) -> dict[str, Any]:
    """Write every episode of the runs into `folder` and return the index; `modes` gives an episode's failure modes.

    Reads one group at a time. `folder` is replaced once all is written. Raises ConfigError, naming the file, where a
    line is no trajectory, and where `folder` holds what we did not make.
    """
    clear_leftovers(folder.parent)
    with whole_folder(folder, replaces=lambda: check_replaceable(folder)) as part:
        writer = _Writer(part, modes, criteria)
        for found in runs:
            writer.add_run(found)
        index = writer.finish()
        note(part, [path.name for path in part.iterdir()])
    return index


def check_replaceable(folder: Path) -> None:
    """Raises ConfigError where `folder` holds anything that an earlier call did not write."""
    if folder.exists():
        refuse_strangers(folder, [path.name for path in folder.iterdir()], "--html")


def script(name: str, data: Any) -> str:
    """The script that hands `data` to the page under `name`; ASCII, so that no letter ends a line or a string of it."""
    return f'tau2_episodes("{name}", {_json(data)})\n'


def deflate(data: Any) -> str:
    """`data` as JSON, compressed with zlib, in base64."""
    return base64.b64encode(zlib.compress(_json(data).encode())).decode()


class _Writer:
    """The content of index.js so far, and the chunk that is not full yet."""

    def __init__(self, folder: Path, modes: Modes, criteria: Lookup) -> None:
        self.folder, self.modes, self.criteria = folder, modes, criteria
        self.runs: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.names: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
        self.columns: dict[str, list[Any]] = {name: [] for name in (*_NAMED, *_NUMBERS)}
        self.chunks: list[int] = []  # the first episode of each
        self.waiting: list[dict[str, Any]] = []
        self.count = 0

    def add_run(self, found: Found) -> None:
        run = found.run
        paths = sorted((run.folder / "trajectories").glob("*.jsonl"))
        if paths:
            self.runs.append(_describe(found, {known["name"] for known in self.runs}))
        for path in paths:
            self.files.append({"run": len(self.runs) - 1, "first": self.count} | _describe_file(run, path))
            for group in read_told(run, path):
                for told in group:
                    self._add(told, run)
                if len(self.waiting) >= CHUNK:
                    self._flush()

    def finish(self) -> dict[str, Any]:
        self._flush()
        names = {name: list(known) for name, known in self.names.items()}
        index = {
            "runs": self.runs,
            "files": self.files,
            "names": names,
            "columns": self.columns,
            "chunks": self.chunks,
            "count": self.count,
        }
        (self.folder / "index.js").write_text(script("index", index))
        return index

    def _add(self, told: Told, run: Run) -> None:
        trajectory, reward = told.trajectory, told.reward
        row = {
            "task": self._code("task", trajectory.key),
            "stop": self._code("stop", trajectory.stop.value),
            "fault": self._code("fault", trajectory.fault.source.value if trajectory.fault else ""),
            "modes": [self._code("modes", mode) for mode in self.modes(trajectory, run.folder)],
            "sample": trajectory.sample,
            "step": told.step,
            "outcome": reward and reward.outcome,
            "shaped": reward and round(reward.shaped, 4),
            "turns": len(trajectory.turns),
        }
        for name, column in self.columns.items():
            column.append(row[name])
        self.waiting.append(episode_record(told, run, self.criteria(trajectory, run.folder)))
        self.count += 1

    def _code(self, name: str, value: str) -> int:
        known = self.names[name]
        return known.setdefault(value, len(known))

    def _flush(self) -> None:
        if self.waiting:
            name = f"{len(self.chunks):05}"
            self.chunks.append(self.count - len(self.waiting))
            (self.folder / f"{name}.js").write_text(script(name, deflate(self.waiting)))
            self.waiting = []


def _describe(found: Found, taken: set[str]) -> dict[str, Any]:
    run = found.run
    name = run.folder.name
    return {
        "name": name if name not in taken else str(run.folder),
        "stage": run.stage if run.stage == found.stage else f"{run.stage} of {found.stage}",
        "arm": found.arm,
        "seed": found.seed,
    }


def _describe_file(run: Run, path: Path) -> dict[str, Any]:
    """An evaluation's files are named by split; the episodes of a stage that trains are of its training split."""
    name, evaluation = path.stem, run.stage == "eval"
    split = name.removesuffix("-greedy") if evaluation else run.config.domain.train_split
    return {"name": name, "split": split, "greedy": evaluation and name.endswith("-greedy")}


def _json(data: Any) -> str:
    return json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """JSON data that a browser reads as it was meant: what its numbers cannot hold becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and abs(value) >= _EXACT):
        return str(value)
    return value
