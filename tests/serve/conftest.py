"""A tiny model, our own server around it in this process, and `serve` in another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import uvicorn

from tau2_exp.config import HardwareConfig
from tau2_exp.engines.torch.checkpoint import save_checkpoint
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.server import Service
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.tokenizer import TextTokenizer, train_tokenizer
from tests.engines.conftest import lively
from tests.serving import PATIENCE, Serving, start_serving, wait_until

CONTEXT = 400
HARDWARE = HardwareConfig(name="cpu", threads=1)
TOKEN = "0123456789abcdef"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return train_tokenizer(["good day, what can I do for you. "] * 20, 300, ["<|im_start|>", "<|im_end|>"])


def make_model(size: int, seed: int = 1, layers: int = 2) -> CausalLM:
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
def served(
    model: CausalLM, tokenizer: TextTokenizer, rows: int = 8, eos: tuple[int, ...] = (), context: int = CONTEXT
) -> Iterator[str]:
    """The address of our own server, in a thread of this process."""
    scheduler = Scheduler(model, tokenizer, HARDWARE, rows)
    app = Service(scheduler, "here", model.shape.vocab_size, context, eos).app(TOKEN, "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts `serve`; ends what a test left of it."""
    begun: list[Serving] = []

    def begin(model: Path, *arguments: str) -> Serving:
        begun.append(start_serving(tmp_path, model, *arguments))
        return begun[-1]

    yield begin
    for serving in begun:
        serving.end()
