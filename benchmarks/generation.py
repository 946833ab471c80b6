"""Multi-turn sampling: the engine beside transformers' `generate` on a padded batch, and beside no cache at all.

    python benchmarks/generation.py [--shape tiny] [--device cpu] [--sessions 96] [--turns 10]
    python benchmarks/generation.py --sessions 64 --turns 6 --shared 2500 --engine-only

Every session hears 10–40 tokens and says 5–40, turn after turn; tokens said a second are counted. With `--shared` all
begin with the same prompt, as the episodes of a domain do.
"""

from __future__ import annotations

import argparse
import asyncio
import random

import torch
from engine import SHAPES, cost, peer, random_model

from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.types import Sampling

Plan = list[list[tuple[list[int], int]]]  # of each session, of each turn: what is heard, how many tokens are said


def make_plan(sessions: int, turns: int, prompt: int, shared: int, vocab_size: int) -> Plan:
    draw = random.Random(0)

    def heard(count: int) -> list[int]:
        return [draw.randrange(vocab_size) for _ in range(count)]

    begin = heard(shared)
    return [
        [
            (begin * (turn == 0) + heard(draw.randint(10, 40) + prompt * (turn == 0)), draw.randint(5, 40))
            for turn in range(turns)
        ]
        for _ in range(sessions)
    ]


def engine(model: CausalLM, plan: Plan, lockstep: bool) -> None:
    """Play the plan; say how many tokens went through the model, and how large the cache was."""
    sizes: list[int] = []
    generator = TorchGenerator(model, EngineConfig(lockstep=lockstep))

    async def play(number: int) -> None:
        ids: list[int] = []
        for turn, (heard, count) in enumerate(plan[number]):
            ids += heard
            answer = await generator.generate(number, ids, Sampling(max_tokens=count), 1000 * number + turn)
            ids += answer.ids
        sizes.append(generator.cache_bytes)
        generator.close(number)

    async def main() -> None:
        for number in range(len(plan)):
            generator.open(number)
        await asyncio.gather(*map(play, range(len(plan))))

    asyncio.run(main())
    size = max(sizes) / 2**20
    print(f"engine, lockstep {lockstep}: {generator.computed} tokens computed, a cache of {size:.0f} MiB", flush=True)


def padded(model, plan: Plan) -> None:
    """One `generate` a turn over all sessions, left-padded, until the longest has said its part."""
    contexts: list[list[int]] = [[] for _ in plan]
    for turn in range(len(plan[0])):
        for context, session in zip(contexts, plan, strict=True):
            context += session[turn][0]
        width = max(map(len, contexts))
        ids = torch.tensor([[0] * (width - len(c)) + c for c in contexts], device=model.device)
        mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts], device=model.device)
        count = max(session[turn][1] for session in plan)
        out = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=0,
        )
        for context, session, said in zip(contexts, plan, out[:, width:].tolist(), strict=True):
            context += said[: session[turn][1]]


@torch.inference_mode()
def uncached(model: CausalLM, plan: Plan) -> None:
    """Each token from the whole of its row again, the rows that speak packed together."""
    contexts: list[list[int]] = [[] for _ in plan]
    for turn in range(len(plan[0])):
        for context, session in zip(contexts, plan, strict=True):
            context += session[turn][0]
        for step in range(max(session[turn][1] for session in plan)):
            speaking = [c for c, session in zip(contexts, plan, strict=True) if step < session[turn][1]]
            lengths = [len(c) for c in speaking]
            ids = torch.tensor([token for c in speaking for token in c], device=model.device)
            ends = torch.tensor(lengths, device=model.device).cumsum(0) - 1
            probabilities = model.logits(model.packed(ids, lengths, ends)).float().softmax(-1)
            for context, token in zip(speaking, probabilities.multinomial(1)[:, 0].tolist(), strict=True):
                context.append(token)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sessions", type=int, default=96)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--prompt", type=int, default=60, help="tokens before the first words")
    parser.add_argument("--shared", type=int, default=0, help="tokens of a prompt before those, the same for all")
    parser.add_argument("--engine-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    model = random_model(SHAPES[given.shape], given.device)
    plan = make_plan(given.sessions, given.turns, given.prompt, given.shared, model.shape.vocab_size)
    few = [session[:] for session in plan[: max(1, given.sessions // 12)]]  # enough to time what is slow
    ways = [
        ("engine, lockstep", lambda p: engine(model, p, True), plan),
        ("engine, as they come", lambda p: engine(model, p, False), plan),
    ]
    if not given.engine_only:
        theirs = peer(model)
        ways.append(("transformers, padded batch", lambda p: padded(theirs, p), plan))
        ways.append(("no cache", lambda p: uncached(model, p), few))
    rates = {}
    for name, work, sessions in ways:
        said = sum(count for session in sessions for _, count in session)
        rates[name] = said / cost(lambda w=work, s=sessions: w(s), given.device, given.repeats)
    unit = "CPU s" if given.device == "cpu" else "s"
    for name, rate in rates.items():
        print(f"{name:28} {rate:9.0f} tokens/{unit}   engine: {rates['engine, lockstep'] / rate:5.1f} ×")


if __name__ == "__main__":
    main()
