"""Part 1: what the card is, and its two ceilings: arithmetic in the matrix units, and memory."""

from __future__ import annotations

import platform
import shutil
import subprocess

import torch

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.clock import milliseconds
from benchmarks.gpu_check.report import Report
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.sizes import Sizes

QUERY = ("driver_version", "memory.total", "clocks.sm", "clocks.mem", "power.limit")  # read only


def run(settings: Settings, report: Report) -> None:
    size = sizes.TINY if settings.tiny else sizes.FULL
    report.facts(**_facts(settings.device))
    report.attempt("bf16 matrix product", lambda: {"TFLOP/s": product_tflops(size, settings.device)})
    report.attempt("device-to-device copy", lambda: {"TB/s": _copy_terabytes(size, settings.device)})


def _facts(device: str) -> dict[str, str | None]:
    facts: dict[str, str | None] = {"torch": torch.__version__, "cuda": torch.version.cuda, "driver": None}
    if device == "cpu":
        return facts | {"card": f"no card: {platform.machine()} CPU"}
    properties = torch.cuda.get_device_properties(0)
    facts["card"] = properties.name
    facts["memory"] = f"{properties.total_memory / 2**30:.1f} GiB, {properties.multi_processor_count} multiprocessors"
    facts["cudnn"] = str(torch.backends.cudnn.version())
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode:
            return facts | {"driver": f"nvidia-smi ended with status {told.returncode}"}
        values = [value.strip() for value in told.stdout.splitlines()[0].split(",")]
        facts["driver"] = values[0]
        facts["state"] = ", ".join(
            f"{name} {value}" for name, value in zip(QUERY, values, strict=False) if name != QUERY[0]
        )
    return facts


def product_tflops(size: Sizes, device: str) -> float:
    """TFLOP/s of one large product of random bf16 matrices: 2·n³ operations. The ceiling that MFU is taken of."""
    a, b = (torch.randn(size.matrix, size.matrix, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size.matrix**3 / milliseconds(lambda: a @ b, device, size.budget) / 1e9


def _copy_terabytes(size: Sizes, device: str) -> float:
    """TB/s of a copy within the device's memory, bytes read and bytes written counted."""
    source = torch.randn(size.copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size.copy_bytes / milliseconds(lambda: target.copy_(source), device, size.budget) / 1e9
