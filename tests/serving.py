"""`python -m tau2_exp serve` as people start it, and what a test sees of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[1]
STANDIN = ROOT / "tests" / "serve" / "standin"  # where SGLang would be


@dataclass
class Serving:
    """A `serve` process, with what it prints."""

    process: subprocess.Popen[str]
    ready: Path
    printed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=lambda: self.printed.extend(self.process.stdout or ()), daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return json.loads(self.ready.read_text())["url"]

    @property
    def token(self) -> str:
        return json.loads(self.ready.read_text())["token"]

    def await_ready(self) -> Serving:
        wait_until(lambda: self.ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, "".join(self.printed)
        return self

    def await_end(self) -> int:
        return self.process.wait(PATIENCE)

    def await_printed(self, words: str, times: int = 1) -> None:
        def seen() -> bool:
            return "".join(self.printed).count(words) >= times

        wait_until(lambda: seen() or not self._reader.is_alive())
        assert seen(), "".join(self.printed)

    def end(self) -> None:
        self.process.terminate()
        self.await_end()


def start_serving(folder: Path, model: Path, *arguments: str) -> Serving:
    """Serve the model, with the ready file and the log under `folder`."""
    ready = folder / "servers" / "policy.json"
    command = [sys.executable, "-u", "-m", "tau2_exp", "serve", str(model), "--ready", str(ready), *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{STANDIN}"}
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Serving(process, ready)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
