"""What several tests share."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A shell starts what it puts in the background deaf to Ctrl-C, and that is inherited: tests send it to what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run_py(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python run.py …` as a user would, its run folders under tmp_path."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run.py"), f"outputs={tmp_path}/outputs", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    return run
