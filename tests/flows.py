"""Whole commands as a user gives them, and what their run folders hold, for tests that compare runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, wait_until

from tau2_exp.jsonl import read_jsonl
from tau2_exp.runs.run import Run

ROOT = Path(__file__).resolve().parents[1]


def run_py(*arguments: str, outputs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(arguments, outputs), capture_output=True, text=True, cwd=ROOT, check=False, timeout=PATIENCE
    )


def kill_when(reached: Callable[[], bool], *arguments: str, outputs: Path) -> None:
    """Start the command, and SIGKILL it with its worker as soon as `reached`; fails where it ends before."""
    with subprocess.Popen(
        _command(arguments, outputs), stdout=subprocess.DEVNULL, cwd=ROOT, process_group=0
    ) as process:
        try:

            def come() -> bool:
                assert process.poll() is None, "it ended before the moment to kill it"
                return reached()

            wait_until(come, "the moment to kill it", poll=0.002)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


class Killed(BaseException):
    """What no code of ours catches: the process is gone."""


def kill_at(step: int, run: Run, do: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the run's stage within this process, until it has told this step."""
    told = Run.log

    def log(run: Run, metrics: dict[str, Any], at: int) -> None:
        told(run, metrics, at)
        if at == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log)
        with pytest.raises(Killed):
            do(run)
        run.close()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def find(outputs: Path, stage: str) -> list[Path]:
    """The run folders of a stage, oldest first."""
    return sorted(path for path in outputs.iterdir() if read(path / "manifest.json")["stage"] == stage)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run came to, by file, without what only says how long it took."""
    found: dict[str, Any] = {"results": read(folder / "results.json")}
    for path in sorted(folder.rglob("*.jsonl")):
        found[str(path.relative_to(folder))] = [_without_time(record) for record in read_jsonl(path)]
    for path in sorted((folder / "checkpoints/last").rglob("*")):
        if path.suffix in (".json", ".safetensors"):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def unlike(a: Path, b: Path) -> list[str]:
    """The files in which two runs differ."""
    mine, theirs = outcome(a), outcome(b)
    return [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]


def _command(arguments: Sequence[str], outputs: Path) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), f"outputs={outputs}", *arguments]


def _without_time(record: Any) -> Any:
    if isinstance(record, dict):
        return {
            key: _without_time(value) for key, value in record.items() if not key.endswith(("seconds", "per_second"))
        }
    return [_without_time(value) for value in record] if isinstance(record, list) else record
