"""A tiny model, our server around it in this process, and `python -m tau2_exp serve` as people start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn

from tau2_exp.config import HardwareConfig
from tau2_exp.engines.torch.checkpoint import save_checkpoint
from tau2_exp.engines.torch.desk import Desk
from tau2_exp.engines.torch.model import ModelShape, Qwen3, new_model
from tau2_exp.engines.torch.server import Service
from tau2_exp.engines.torch.tokenizer import TextTokenizer, train_tokenizer
from tests.engines.conftest import lively

ROOT = Path(__file__).resolve().parents[2]
STANDIN = ROOT / "tests" / "serve" / "standin"
PATIENCE = 60.0  # seconds for anything here, on a machine that does other things too
CONTEXT = 400
HARDWARE = HardwareConfig(name="cpu", threads=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return train_tokenizer(["good day, what can I do for you. "] * 20, 300, ["<|im_start|>", "<|im_end|>"])


def make_model(size: int, seed: int = 1, layers: int = 2) -> Qwen3:
    shape = ModelShape(size, layers, width=32, heads=4, kv_heads=2, head_dim=16, ffn=48, context=CONTEXT)
    return lively(new_model(shape, seed))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    """Folders of models: `one` and `two` of one shape, `other` of another."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, seed, layers in (("one", 1, 2), ("two", 2, 2), ("other", 1, 1)):
        save_checkpoint(folder / name, make_model(tokenizer.size, seed, layers), tokenizer)
    return folder


@contextmanager
def served(model: Qwen3, tokenizer: TextTokenizer, rows: int = 8, eos: tuple[int, ...] = ()) -> Iterator[str]:
    """The address of our own server, in a thread of this process."""
    desk = Desk(model, tokenizer, HARDWARE, rows)
    app = Service(desk, "here", model.shape.vocab_size, CONTEXT, eos).app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts `serve`, with the stand-in where SGLang would be; ends what a test left."""
    begun: list[Serving] = []

    def begin(model: Path, *arguments: str) -> Serving:
        ready = tmp_path / "servers" / "policy.json"
        command = [sys.executable, "-u", "-m", "tau2_exp", "serve", str(model), "--ready", str(ready), *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{STANDIN}"}
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        serving = Serving(process, ready)
        begun.append(serving)
        return serving

    yield begin
    for serving in begun:
        serving.process.terminate()
        serving.await_end()


def wait_until(come: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
