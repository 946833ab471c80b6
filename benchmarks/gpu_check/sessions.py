"""Sessions of the engine that decode side by side, and transformers' generate beside them."""

from __future__ import annotations

import asyncio
import random

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_check.backends import kernels
from benchmarks.gpu_check.clock import peak_gib, reset_peak, wall
from benchmarks.gpu_check.report import Figures
from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.types import Sampling

WARM = 4  # tokens of each session before the timed ones
PROFILED = 4
AROUND = 1 + WARM + 1 + 1 + 3 * PROFILED  # tokens that a session says beside the timed ones


def prompts(count: int, length: int, vocab_size: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(vocab_size) for _ in range(length)] for _ in range(count)]


class Sessions:
    """Sessions with contexts of their own; each `advance` is one turn of all of them."""

    def __init__(self, model: CausalLM, contexts: list[list[int]], engine: EngineConfig, longest: int | None = None):
        self._contexts = [list(context) for context in contexts]
        self.generator = TorchGenerator(model, engine, longest)
        for number in range(len(contexts)):
            self.generator.open(number)

    def advance(self, count: int) -> None:
        """Every session says `count` tokens."""
        asyncio.run(self._advance(count))

    async def _advance(self, count: int) -> None:
        sampling = Sampling(max_tokens=count)
        asked = (self.generator.generate(n, ids, sampling, n) for n, ids in enumerate(self._contexts))
        for context, answer in zip(self._contexts, await asyncio.gather(*asked), strict=True):
            context += answer.ids


def engine_decoding(
    model: CausalLM, contexts: list[list[int]], decoded: int, engine: EngineConfig, device: str
) -> Figures:
    """Tokens/s of prefill and of decoding, kernels a decoding pass, the cache's size and the most memory held.

    The first pass of a turn feeds each session's last token as new context, row by row; it is measured by itself, and
    is not among the decoding passes.
    """
    reset_peak(device)
    sessions = Sessions(model, contexts, engine)
    prefill = wall(lambda: sessions.advance(1), device)
    sessions.advance(WARM)
    first = wall(lambda: sessions.advance(1), device)
    seconds = (wall(lambda: sessions.advance(1 + decoded), device) - first) / 1e3
    return {
        "sessions": len(contexts),
        "context": len(contexts[0]),
        "tokens/s": len(contexts) * decoded / seconds,
        "ms a pass": 1e3 * seconds / decoded,
        "first pass of a turn, ms": first,
        "kernels a pass": _kernels_a_pass(sessions, device),
        "prefill tokens/s": 1e3 * sum(map(len, contexts)) / prefill,
        "cache GiB": sessions.generator.cache_bytes / 2**30,
        "peak GiB": peak_gib(device),
    }


def _kernels_a_pass(sessions: Sessions, device: str) -> float | None:
    """Kernels that the card runs in one decoding pass, the first of a turn left out; None on a CPU."""
    if device == "cpu":
        return None
    counts: list[int] = []
    for tokens in (PROFILED, 2 * PROFILED):
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            sessions.advance(tokens)
            torch.cuda.synchronize()
        counts.append(len(kernels(seen.events() or [])))
    return (counts[1] - counts[0]) / PROFILED


@torch.inference_mode()
def transformers_decoding(theirs, contexts: list[list[int]], decoded: int, device: str) -> Figures:
    """The same by transformers' `generate`, whose prefill is measured by a run that says one token."""
    reset_peak(device)
    ids = torch.tensor(contexts, device=device)

    def say(count: int) -> None:
        mask = torch.ones_like(ids)
        theirs.generate(
            ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=count, min_new_tokens=count,
            pad_token_id=0,
        )  # fmt: skip

    say(2)
    prefill = wall(lambda: say(1), device)
    seconds = (wall(lambda: say(decoded + 1), device) - prefill) / 1e3
    return {
        "sessions": len(contexts),
        "context": len(contexts[0]),
        "tokens/s": len(contexts) * decoded / seconds,
        "ms a pass": 1e3 * seconds / decoded,
        "prefill tokens/s": 1e3 * ids.numel() / prefill,
        "peak GiB": peak_gib(device),
    }
