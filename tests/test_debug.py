"""debug=true: the stage is done in the process that was started, so that a debugger has the terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flows import ROOT, find, read

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.launch import launch
from tau2_exp.runs.run import Run, RunStatus

PAUSED = """
import runpy, sys
from tau2_exp.stages import demos as room

stage = room.demos

async def paused(run):
    word = "spoken"
    breakpoint()
    await stage(run)

room.demos = paused
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SECONDS = 120.0


class Terminal:
    """A pseudo-terminal's other end: what a person reads and types."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.seen = descriptor, ""

    def read_until(self, text: str) -> None:
        """Read on until `text` is seen, from where the last such reading ended."""
        start, deadline = len(self.seen), time.monotonic() + SECONDS
        while text not in self.seen[start:]:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come; there was {self.seen[start:]!r}"
            self.seen += os.read(self.descriptor, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self.descriptor, f"{text}\n".encode())


def test_a_breakpoint_has_the_terminal(tmp_path: Path) -> None:
    words = [str(ROOT / "run.py"), "stage=demos", "domain.limit=1", "debug=true", f"outputs={tmp_path}"]
    code = f"import sys; sys.argv = {words!r}\n{PAUSED}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT
    ) as process:
        os.close(theirs)
        terminal = Terminal(ours)
        terminal.read_until("(Pdb)")
        terminal.type("p f'{word} in {run.stage}'")
        terminal.read_until("'spoken in demos'")
        terminal.type("continue")
        terminal.read_until("finished:")
    os.close(ours)
    assert process.returncode == 0
    (demos,) = find(tmp_path, "demos")
    assert read(demos / "results.json") and read(demos / "manifest.json")["hardware"]["device"] == "cpu"


def test_an_error_comes_as_it_was_raised_and_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unlucky(run: Run) -> None:
        raise ValueError("unlucky")

    monkeypatch.setattr("tau2_exp.stages.demos.demos", unlucky)
    with pytest.raises(ValueError, match="unlucky") as raised:
        launch([f"outputs={tmp_path}", "stage=demos", "debug=true"], False, [])
    assert raised.traceback[-1].name == "unlucky"
    run = Run.open(find(tmp_path, "demos")[0])
    assert run.status is RunStatus.failed and run.failure == "ValueError: unlucky"


@pytest.mark.parametrize(
    ("overrides", "sweep", "why"),
    [
        (["stage=demos", "seed=1,2"], True, "without -m"),
        (["experiment=reference_sft"], False, "use engine=torch"),
        (["stage=sft", "hardware=slurm_cpu"], False, "hardware.launcher=local"),
    ],
)
def test_what_other_processes_do_is_refused(overrides: list[str], sweep: bool, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"debug=true: .*{why}"):
        launch([f"outputs={tmp_path}", "debug=true", *overrides], sweep, [])
    assert not list(tmp_path.iterdir())
