"""Timing on a card and on a CPU. Work on a card is timed by its own events, after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 20


def milliseconds(work: Callable[[], object], device: str, budget: float) -> float:
    """The median time of `work`, from up to REPEATS runs that together take about `budget` seconds; at least three."""
    work()
    first = once(work, device)
    repeats = int(max(3, min(REPEATS, 1e3 * budget / max(first, 1e-3))))
    return statistics.median(once(work, device) for _ in range(repeats))


def once(work: Callable[[], object], device: str) -> float:
    """The milliseconds of one run."""
    if device == "cpu":
        begun = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - begun)
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begun.record()
    work()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended)


def wall(work: Callable[[], object], device: str) -> float:
    """The milliseconds of one run as the caller waits for it: what the CPU does for it is in it."""
    synchronize(device)
    begun = time.perf_counter()
    work()
    synchronize(device)
    return 1e3 * (time.perf_counter() - begun)


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float | None:
    """The most memory of the card held at once since `reset_peak`, in GiB; None on a CPU."""
    return None if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30


def reset_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
