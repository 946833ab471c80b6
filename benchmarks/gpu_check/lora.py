"""Steps of a LoRA adapter at 4B, where full training leaves a card little room."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.card import product_tflops
from benchmarks.gpu_check.report import Report
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.steps import Bench, grpo_rows, sft_rows

RANK = 16


def run(settings: Settings, report: Report) -> None:
    if find_spec("peft") is None:
        report.skip("peft is not installed; pip install it, or pack with --also peft")
        return
    size = sizes.TINY if settings.tiny else sizes.FULL
    bench = Bench(size, settings.device, product_tflops(size, settings.device), report)
    shape = size.shapes["4B"]
    bench.ours("LoRA SFT, 4B", shape, sft_rows(size, shape), recompute=True, lora=RANK)
    bench.ours("LoRA GRPO, 4B", shape, grpo_rows(size, shape), recompute=True, lora=RANK)
