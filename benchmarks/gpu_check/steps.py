"""Part 4: SFT and GRPO steps at Qwen3's sizes, beside the padded step that one would write with transformers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from engine import cost, dialogue_rows, peer, random_model
from training import PlainLoop, grpo_loss, sft_loss

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.card import product_tflops
from benchmarks.gpu_check.clock import peak_gib, reset_peak
from benchmarks.gpu_check.flops import packed_flops, training_flops
from benchmarks.gpu_check.report import Figures, Outcome, Report
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.sizes import Sizes
from tau2_exp.config import EngineConfig, GrpoConfig, ModelConfig, SftConfig
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Row

REPEATS = 2  # after one step for warming up


def run(settings: Settings, report: Report) -> None:
    size = sizes.TINY if settings.tiny else sizes.FULL
    ceiling = product_tflops(size, settings.device)
    bench = Bench(size, settings.device, ceiling, report)
    small, large = size.shapes.values()
    rows, groups = sft_rows(size, small), grpo_rows(size, small)
    bench.ours("SFT, 0.6B", small, rows, recompute=False)
    bench.ours("GRPO, 0.6B", small, groups, recompute=False)
    bench.theirs("SFT, 0.6B", small, rows, checkpointing=False)
    bench.theirs("GRPO, 0.6B", small, groups[: size.samples], checkpointing=False)
    bench.ours("SFT, 4B", large, rows, recompute=True)
    bench.theirs("SFT, 4B", large, rows, checkpointing=True)


def sft_rows(size: Sizes, shape: ModelShape) -> list[Row]:
    """Rows of an SFT step, which share nothing."""
    return dialogue_rows(size.rows, size.row, size.row, shape.vocab_size)


def grpo_rows(size: Sizes, shape: ModelShape) -> list[Row]:
    """Rows of a GRPO step: in each group all begin alike, and are trained only where they are their own."""
    draw = random.Random(1)
    rows: list[Row] = []
    for group in range(size.groups):
        prefix = tuple(draw.randrange(shape.vocab_size) for _ in range(size.prefix))
        untrained, zeros = (False,) * size.prefix, (0.0,) * size.prefix
        for own in dialogue_rows(size.samples, size.branch, size.branch, shape.vocab_size, seed=2 + group):
            rows.append(Row(prefix + own.ids, untrained + own.trained, zeros + own.log_probs, zeros + own.advantages))
    return rows


class Bench:
    """Times steps and records them. MFU is of `ceiling`, the TFLOP/s of a large bf16 product in this same run."""

    def __init__(self, size: Sizes, device: str, ceiling: float, report: Report):
        self._size, self._device, self._ceiling, self._report = size, device, ceiling, report

    def ours(self, name: str, shape: ModelShape, rows: Sequence[Row], recompute: bool, lora: int | None = None) -> None:
        """The engine's step, with fewer tokens a pass where they have no room. `lora`: an adapter's rank."""
        most = self._size.batch_tokens
        for batch_tokens in (most, most // 2, most // 4):
            title = f"{name}, {batch_tokens} tokens a pass" + (", recomputing" if recompute else "")
            engine = EngineConfig(batch_tokens=batch_tokens, recompute=recompute)
            if self._report.attempt(title, partial(self._ours, name, shape, rows, engine, lora)) is not Outcome.no_room:
                return

    def theirs(self, name: str, shape: ModelShape, rows: Sequence[Row], checkpointing: bool) -> None:
        """A padded step of transformers' class in this dtype throughout, without float32 masters: one row a pass."""
        title = f"{name}, transformers padded" + (", recomputing" if checkpointing else "")
        self._report.attempt(title, partial(self._theirs, name, shape, rows, checkpointing))

    def _ours(
        self, name: str, shape: ModelShape, rows: Sequence[Row], engine: EngineConfig, lora: int | None
    ) -> Figures:
        config = SftConfig() if "SFT" in name else GrpoConfig(kl=0.0)
        reset_peak(self._device)
        model = random_model(shape, self._device)
        if lora:
            model.adapter = Adapter(model, ModelConfig(name=name, lora=lora), seed=0, base="random weights")
        trainer = Trainer(model, config, 1000, engine)
        step = trainer.sft_step if isinstance(config, SftConfig) else trainer.grpo_step
        seconds = cost(lambda: step(rows), self._device, REPEATS)
        batches = model.batches(rows, engine.batch_tokens)
        operations, computed = packed_flops(shape, batches, frozen=lora is not None)
        return self._figures(rows, seconds, computed, operations)

    def _theirs(self, name: str, shape: ModelShape, rows: Sequence[Row], checkpointing: bool) -> Figures:
        reset_peak(self._device)
        model = peer(random_model(shape, self._device))
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()
        loop = PlainLoop(model, batch=1)
        loss = sft_loss if name.startswith("SFT") else grpo_loss
        seconds = cost(lambda: loop.step(rows, loss), self._device, REPEATS)
        lengths = [len(row.ids) for row in rows]
        return self._figures(rows, seconds, sum(lengths), training_flops(shape, lengths, [0] * len(rows)))

    def _figures(self, rows: Sequence[Row], seconds: float, computed: int, operations: float) -> Figures:
        tokens = sum(len(row.ids) for row in rows)
        teraflops = operations / seconds / 1e12
        return {
            "tokens/s": tokens / seconds,
            "tokens a step": tokens,
            "computed": computed,
            "seconds a step": seconds,
            "TFLOP/s": teraflops,
            "MFU": teraflops / self._ceiling,
            "peak GiB": peak_gib(self._device),
        }
