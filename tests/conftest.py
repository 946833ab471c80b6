"""What several tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flows
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
# A shell starts what it puts in the background deaf to Ctrl-C, nohup to a closed terminal, and that is inherited: tests
# send both to what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# One commit, one verdict: `make test` and CI search the same examples each time, however slow the machine is.
# `make fuzz` searches others, and more of them.
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **SLOW)
settings.register_profile("fuzz", max_examples=int(os.environ.get("EXAMPLES", "2000")), print_blob=True, **SLOW)
settings.load_profile("repeatable")


# What shares a costly fixture, or a resource of the machine, runs in one process; all else is divided by files.
TOGETHER = {
    "tests/dispatch/test_slurm": "slurm",  # its jobs, and those of test_ray, choose Ray's ports by their numbers
    "tests/engines/slime/test_ray": "slurm",
    "tests/engines/slime/": "pupil",
    "tests/stages/": "pupil",
    "tests/serve/": "serve",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together where several processes run them (`make test`)."""
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        group = next((name for start, name in TOGETHER.items() if file.startswith(start)), file)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def smoke_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `smoke` leaves its runs in; tests read it, and leave it as it is."""
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture(scope="session")
def smoke(smoke_outputs: Path) -> subprocess.CompletedProcess[str]:
    """The smoke experiment as a user runs it."""
    done = flows.run_py("experiment=smoke", outputs=smoke_outputs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def run_py(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python run.py …` as a user would, its run folders under tmp_path."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run.py"), f"outputs={tmp_path}/outputs", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    return run
