"""SFT and GRPO steps, beside the plain loop one would write with transformers: padded rows, all logits, AdamW.

Those rows share nothing. "grpo, groups" steps on groups of 8 rows that branch off one another, as the samples of one
task do, and is compared with as many rows of the same lengths that share nothing.

python benchmarks/training.py [--shape tiny] [--device cpu] [--rows 16] [--length 300 750] [--batch-tokens 4096]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence

import torch
from engine import SHAPES, cost, dialogue_rows, peer, random_model
from torch import Tensor

from tau2_exp.config import EngineConfig, GrpoConfig, SftConfig
from tau2_exp.engines.torch.packing import Packed, pack
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, nargs=2, default=(300, 750))
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    rows = dialogue_rows(given.rows, *given.length, shape.vocab_size)
    measured = _ours(
        shape, rows, given.device, EngineConfig(batch_tokens=given.batch_tokens, recompute=given.recompute)
    )
    if not given.no_peer:
        micro = max(1, given.batch_tokens // max(len(row.ids) for row in rows))
        loop = PlainLoop(peer(random_model(shape, given.device)), micro)
        measured["sft, transformers padded"] = cost(lambda: loop.step(rows, sft_loss), given.device)
        measured["grpo, transformers padded"] = cost(lambda: loop.step(rows, grpo_loss), given.device)
    _show(measured, sum(len(row.ids) for row in rows), given.device)


def _ours(shape: ModelShape, rows: Sequence[Row], device: str, engine: EngineConfig) -> dict[str, float]:
    sft = Trainer(random_model(shape, device), SftConfig(), 1000, engine)
    measured = {"sft": cost(lambda: sft.sft_step(rows), device)}
    # Each trainer has a model of its own: a bfloat16 model gives its gradients to the first trainer alone.
    grpo = Trainer(random_model(shape, device), GrpoConfig(kl=0.0), 1000, engine)
    measured["grpo"] = cost(lambda: grpo.grpo_step(rows), device)
    groups = branching(rows, shape.vocab_size)
    distinct = sum(len(Packed(b, grpo.model.device).ids) for b in pack(groups, engine.batch_tokens))
    print(f"groups: {distinct / sum(len(row.ids) for row in rows):.0%} of the tokens are computed")
    measured["grpo, groups"] = cost(lambda: grpo.grpo_step(groups), device)
    reference = random_model(shape, device, seed=1)
    grpo = Trainer(random_model(shape, device), GrpoConfig(kl=0.01), 1000, engine, reference)
    measured["grpo with KL"] = cost(lambda: grpo.grpo_step(rows), device)
    return measured


def _show(measured: dict[str, float], tokens: int, device: str) -> None:
    unit = "CPU s" if device == "cpu" else "s"
    for name, seconds in measured.items():
        theirs = measured.get(f"{name}, transformers padded")
        ratio = f"   {theirs / seconds:.2f} × transformers padded" if theirs else ""
        if name == "grpo, groups":
            ratio = f"   {measured['grpo'] / seconds:.2f} × rows that share nothing"
        print(
            f"{name:28} {seconds:8.3f} {unit} a step of {tokens} tokens   {tokens / seconds:9.0f} tokens/{unit}{ratio}"
        )
    if device != "cpu":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
