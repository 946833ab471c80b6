"""SFT and GRPO steps, beside the plain loop one would write with transformers: padded rows, all logits, AdamW.

Those rows share nothing. "grpo, groups" steps on groups of 8 rows that branch off one another, as the samples of one
task do, and is compared with as many rows of the same lengths that share nothing. MFU is the operations of
gpu_check/flops.py over what a large product of matrices reaches here (or --peak); padding and what is computed twice
are no work.

python benchmarks/training.py [--shape tiny] [--device cpu] [--rows 16] [--length 300 750] [--batch-tokens 4096]
"""

from __future__ import annotations

import argparse
import random
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from engine import SHAPES, cost, dialogue_rows, peer, random_model
from gpu_check.flops import packed_flops
from torch import Tensor

from tau2_exp.config import EngineConfig, GrpoConfig, SftConfig
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Row


class PlainLoop:
    """Micro-batches of right-padded rows through `Qwen3ForCausalLM`; the loss as most scripts write it."""

    def __init__(self, model, batch: int):
        self.model, self.batch = model, batch
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step(self, rows: Sequence[Row], loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        trained = sum(sum(row.trained) for row in rows)
        for start in range(0, len(rows), self.batch):
            ids, mask, flags, old, advantages = self._padded(rows[start : start + self.batch])
            logits = self.model(ids, attention_mask=mask).logits[:, :-1].float()
            log_p = logits.log_softmax(-1)
            log_probs = log_p.gather(-1, ids[:, 1:, None])[..., 0]
            entropy = -(log_p.exp() * log_p).sum(-1) if loss is grpo_loss else log_probs
            ((loss(log_probs, old[:, 1:], advantages[:, 1:], entropy) * flags[:, 1:]).sum() / trained).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _padded(self, rows: Sequence[Row]) -> list[Tensor]:
        width = max(len(row.ids) for row in rows)

        def pad(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
            lines = [list(v) + [0] * (width - len(v)) for v in values]
            return torch.tensor(lines, dtype=dtype, device=self.model.device)

        return [
            pad([row.ids for row in rows], torch.long),
            pad([[1] * len(row.ids) for row in rows], torch.long),
            pad([row.trained for row in rows], torch.float32),
            pad([row.log_probs for row in rows], torch.float32),
            pad([row.advantages for row in rows], torch.float32),
        ]


def sft_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, entropy: Tensor) -> Tensor:
    return -log_probs


def grpo_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, entropy: Tensor) -> Tensor:
    ratio = (log_probs - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages) - 0.001 * entropy


def branching(rows: Sequence[Row], vocab_size: int, group: int = 8) -> list[Row]:
    """The same rows, but that each begins as another of its group did, for 30 to 100 % of its length."""
    draw = random.Random(0)
    made: list[Row] = []
    for number, row in enumerate(rows):
        siblings = made[number - number % group :]
        common = draw.choice(siblings).ids[: int(draw.uniform(0.3, 1.0) * len(row.ids))] if siblings else ()
        ids = common + tuple(draw.randrange(vocab_size) for _ in range(len(row.ids) - len(common)))
        made.append(Row(ids, row.trained, row.log_probs, row.advantages))
    return made


@dataclass(frozen=True)
class Step:
    """One step: its seconds, the operations that it is worth (0: not counted), and the most memory held, in GiB."""

    seconds: float
    operations: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, nargs=2, default=(300, 750))
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--recompute", action=argparse.BooleanOptionalAction)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peak", type=float, help="TFLOP/s that MFU is taken of; else those of a large product, here")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    rows = dialogue_rows(given.rows, *given.length, shape.vocab_size)
    engine = EngineConfig(batch_tokens=given.batch_tokens, recompute=given.recompute)
    measured = _ours(shape, rows, given.device, engine)
    if not given.no_peer:
        micro = max(1, given.batch_tokens // max(len(row.ids) for row in rows))
        loop = PlainLoop(peer(random_model(shape, given.device)), micro)
        for name, loss in (("sft", sft_loss), ("grpo", grpo_loss)):
            step = _measured(lambda loss=loss: loop.step(rows, loss), given.device, measured[name].operations)
            measured[f"{name}, transformers padded"] = step
    peak = given.peak or product_teraflops(given.device)
    print(f"MFU is of {peak:.3g} TFLOP/s, {'as given' if given.peak else 'measured: a large product of matrices'}")
    _show(measured, sum(len(row.ids) for row in rows), given.device, peak)


def _ours(shape: ModelShape, rows: Sequence[Row], device: str, engine: EngineConfig) -> dict[str, Step]:
    groups = branching(rows, shape.vocab_size)
    measured: dict[str, Step] = {}

    def step(name: str, config: SftConfig | GrpoConfig, rows: Sequence[Row]) -> None:
        """Each trainer has a model of its own: a bfloat16 model gives its gradients to the first trainer alone."""
        model = random_model(shape, device)
        reference = random_model(shape, device, seed=1) if name == "grpo with KL" else None
        trainer = Trainer(model, config, 1000, engine, reference)
        take = trainer.sft_step if isinstance(config, SftConfig) else trainer.grpo_step
        operations, computed = packed_flops(shape, model.batches(rows, engine.batch_tokens))
        measured[name] = _measured(lambda: take(rows), device, operations)
        if rows is groups:
            print(f"groups: {computed / sum(len(row.ids) for row in rows):.0%} of the tokens are computed")

    step("sft", SftConfig(), rows)
    step("grpo", GrpoConfig(kl=0.0), rows)
    step("grpo, groups", GrpoConfig(kl=0.0), groups)
    step("grpo with KL", GrpoConfig(kl=0.01), rows)  # its MFU leaves the reference's forward pass out
    return measured


def _measured(work: Callable[[], object], device: str, operations: float) -> Step:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = cost(work, device)
    if device != "cpu":
        return Step(seconds, operations, torch.cuda.max_memory_allocated() / 2**30)
    return Step(seconds, operations, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def product_teraflops(device: str, side: int = 2048) -> float:
    """TFLOP/s of one large product in the model's own dtype: 2·n³ operations."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / cost(lambda: a @ b, device) / 1e12


def _show(measured: dict[str, Step], tokens: int, device: str, ceiling: float) -> None:
    """On a CPU memory is the most that the process has held so far, and rises from line to line."""
    unit = "CPU s" if device == "cpu" else "s"
    for name, step in measured.items():
        theirs = measured.get(f"{name}, transformers padded")
        ratio = f"   {theirs.seconds / step.seconds:.2f} × transformers padded" if theirs else ""
        if name == "grpo, groups":
            ratio = f"   {measured['grpo'].seconds / step.seconds:.2f} × rows that share nothing"
        rate = f"{tokens / step.seconds:9.0f} tokens/{unit}"
        mfu = step.operations / step.seconds / 1e12 / ceiling
        print(
            f"{name:28} {step.seconds:8.3f} {unit} a step of {tokens} tokens   {rate}   MFU {mfu:5.1%}   "
            f"peak {step.peak:.2f} GiB{ratio}"
        )


if __name__ == "__main__":
    main()
