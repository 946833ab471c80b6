"""What the engine's benchmarks share: shapes, made-up rows, clocks, the peer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import torch

from tau2_exp.config import Dtype, HardwareConfig
from tau2_exp.engines.torch.device import dtype_of, prepare
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.shape import INIT_DEVIATION, ModelShape
from tau2_exp.types import Row

SHAPES = {
    "tiny": ModelShape(1900, 2, 128, 4, 2, 32, 384),
    "qwen3_0_6b": ModelShape(151936, 28, 1024, 16, 8, 128, 3072, rope_base=1e6, context=40960),
    "qwen3_4b": ModelShape(151936, 36, 2560, 32, 8, 128, 9728, rope_base=5e6, context=262144),
}


def hardware(device: str) -> HardwareConfig:
    """One thread and float32 on a CPU, bfloat16 on a GPU."""
    return HardwareConfig(device, device, Dtype.float32 if device == "cpu" else Dtype.bfloat16, threads=1)


def random_model(shape: ModelShape, device: str, seed: int = 0) -> CausalLM:
    """Random weights, drawn on the device itself: a large model's would take a CPU minutes."""
    where = hardware(device)
    place, dtype = prepare(where), dtype_of(where)
    if place.type == "cpu":
        return new_model(shape, seed).to(dtype)
    with torch.device("meta"):
        model = CausalLM(shape)
    model = model.to(dtype).to_empty(device=place)
    generator = torch.Generator(place).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, INIT_DEVIATION, generator=generator)
            else:
                parameter.fill_(1.0)
    return model


def peer(model: CausalLM):
    """Transformers' own class with a copy of the same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    data = model.shape.to_hf()
    config = AutoConfig.for_model(data.pop("model_type"), **data)
    with torch.device(model.device):
        theirs = AutoModelForCausalLM.from_config(config, dtype=model.head.dtype)
    missing, unexpected = theirs.load_state_dict(model.state_dict(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:  # tied: it is the embedding
        raise RuntimeError(f"the weights do not fit transformers' class: {missing}, {unexpected}")
    return theirs


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
