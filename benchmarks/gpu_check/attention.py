"""Part 2: which attention backend each call site of the engine gets, and its time beside the best backend's."""

from __future__ import annotations

import statistics
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.backends import FUSED, refusal, taken
from benchmarks.gpu_check.clock import milliseconds, wall
from benchmarks.gpu_check.report import DETAILS, Figures, Report
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.sites import KINDS, Call, Site, replayed, site
from benchmarks.gpu_check.sizes import Sizes

UNLIKE = 2e-2  # relative error of bf16 attention beyond which two ways do not compute the same
NEW_LENGTHS = (1, 2, 3)  # tokens more than the length that is timed


def run(settings: Settings, report: Report) -> None:
    size = sizes.TINY if settings.tiny else sizes.FULL
    for name in size.shapes:
        for kind in KINDS:
            report.attempt(f"{kind}, {name}", partial(_measure, name, kind, size, settings.device))


def _measure(name: str, kind: str, size: Sizes, device: str) -> Figures:
    """Training sites are timed forward and backward, the others forward."""
    shape, sessions = size.shapes[name], size.sessions[name]
    with nullcontext() if kind.startswith("training") else torch.inference_mode():
        here = site(kind, shape, sessions, size, device)
        engine = replayed(here.whole)
        backends, kernels = taken(engine, device)
        mine = milliseconds(_step(engine, here.leaves), device, size.budget)
        times, refused = _others(here, device, size.budget)
        best = min(times, key=times.__getitem__, default=None)
        whole = milliseconds(here.whole, device, size.budget)
        fresh, again = _new_lengths(kind, name, size, device)
    return {
        "queries × keys": here.shape,
        "backend": ", ".join(backends) or "none of torch's",
        "ms": mine,
        "best": best,
        "best ms": times[best] if best else None,
        "times the best": mine / times[best] if best else None,
        "with the cache, ms": whole if not here.leaves else None,
        "new length, ms": fresh,
        "again, ms": again,
        DETAILS: {"ms of each": times, "refused": refused, "kernels": kernels},
    }


def _others(here: Site, device: str, budget: float) -> tuple[dict[str, float], dict[str, str]]:
    """Milliseconds of each backend with each way to write the call that it takes, and why others are refused."""
    times: dict[str, float] = {}
    refused: dict[str, str] = {}
    wanted = here.whole().detach()
    for backend, code in FUSED[torch.device(device).type].items():
        for way, call in here.others.items():
            name = f"{backend}: {way}"
            why = refusal(_step(call, here.leaves), code)
            if why is None:
                with sdpa_kernel(code):
                    error = _unlike(call().detach(), wanted)
                    if error < UNLIKE:
                        times[name] = milliseconds(_step(call, here.leaves), device, budget)
                    else:
                        why = f"its result differs by {error:.1e}"
            if why is not None:
                refused[name] = why
    return times, refused


def _step(call: Call, leaves: tuple[Tensor, ...]) -> Call:
    """The call, with its way back where it is trained through."""
    if not leaves:
        return call

    def both() -> Tensor:
        out = call()
        return torch.autograd.grad(out, leaves, torch.ones_like(out))[0]

    return both


def _unlike(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖; infinite where `found` is not a number."""
    difference = (found.float() - wanted.float()).norm() / wanted.float().norm()
    return float(difference.nan_to_num(float("inf")))


def _new_lengths(kind: str, name: str, size: Sizes, device: str) -> tuple[float, float]:
    """Milliseconds of the engine's own function at lengths not seen before: the first time, and the second.

    A backend that builds a plan for each new length shows here: a decoding pass has a new length every time.
    """
    seen: list[tuple[float, float]] = []
    for extra in NEW_LENGTHS:
        there = site(kind, size.shapes[name], size.sessions[name], size, device, extra)
        work = _step(there.whole, there.leaves)
        seen.append((wall(work, device), wall(work, device)))
    return statistics.median(first for first, _ in seen), statistics.median(second for _, second in seen)
