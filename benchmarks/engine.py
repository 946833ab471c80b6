"""What the engine's benchmarks share: shapes, made-up rows, clocks, the peer."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tau2_exp.config import Dtype, HardwareConfig
from tau2_exp.engines.torch.checkpoint import save_checkpoint
from tau2_exp.engines.torch.device import dtype_of, prepare
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.tokenizer import train_tokenizer
from tau2_exp.types import Row

SHAPES = {
    "tiny": ModelShape(1900, 2, 128, 4, 2, 32, 384),
    "qwen3_0_6b": ModelShape(151936, 28, 1024, 16, 8, 128, 3072, rope_base=1e6, context=40960),
}


def hardware(device: str) -> HardwareConfig:
    """One thread and float32 on a CPU, bfloat16 on a GPU."""
    return HardwareConfig(device, device, Dtype.float32 if device == "cpu" else Dtype.bfloat16, threads=1)


def random_model(shape: ModelShape, device: str, seed: int = 0) -> CausalLM:
    where = hardware(device)
    return new_model(shape, seed).to(prepare(where), dtype_of(where))


def peer(model: CausalLM):
    """The same weights in transformers' own class, opened from a checkpoint of ours."""
    from transformers import AutoModelForCausalLM

    tokenizer = train_tokenizer(["hello\n"], 300, ["<|im_end|>"])
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "model", model, tokenizer)
        theirs = AutoModelForCausalLM.from_pretrained(Path(folder) / "model", dtype=model.head.dtype)
    return theirs.to(model.device)


def dialogue_rows(count: int, low: int, high: int, vocab_size: int, seed: int = 0) -> list[Row]:
    """Rows as a telecom dialogue makes them: a prompt, then turns of 20 sampled among 30 heard tokens."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        length = draw.randint(low, high)
        trained = tuple(i > 60 and i % 50 >= 30 for i in range(length))
        ids = tuple(draw.randrange(vocab_size) for _ in range(length))
        log_probs = tuple(-7.5 * flag for flag in trained)
        advantages = tuple(draw.choice((-1.0, 1.0)) * flag for flag in trained)
        rows.append(Row(ids, trained, log_probs, advantages))
    return rows


def cost(work: Callable[[], object], device: str, repeats: int = 3) -> float:
    """Seconds of the quickest of `repeats`, after one for warming up: of CPU time on a CPU, of the clock on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = []
    for _ in range(repeats + 1):
        _wait(device)
        begun = clock()
        work()
        _wait(device)
        seconds.append(clock() - begun)
    return min(seconds[1:])


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
