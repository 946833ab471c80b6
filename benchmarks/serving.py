"""Multi-turn episodes through the torch engine's own server, beside the same engine in process.

    python benchmarks/serving.py [--shape tiny] [--device cpu] [--sessions 32] [--turns 6] [--prompt 400]

All of it is in this process (client, HTTP and model), so that CPU time counts what each way costs in all. The prompt
is the same for all sessions, as a domain's policy is; each turn sends its whole context, as SGLang's protocol has it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Callable

import uvicorn
from engine import SHAPES, cost, hardware, random_model
from generation import Plan, make_plan

from tau2_exp.config import EngineConfig, PolicyConfig
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.server import Service
from tau2_exp.engines.torch.tokenizer import train_tokenizer
from tau2_exp.interfaces import Generator
from tau2_exp.policies.sglang import SglangGenerator
from tau2_exp.types import Sampling

TOKEN = "of-this-process-0"


def play(make: Callable[[], Generator], plan: Plan, prompt: list[int]) -> None:
    async def session(generator: Generator, number: int) -> None:
        ids = list(prompt)
        generator.open(number)
        for turn, (heard, count) in enumerate(plan[number]):
            ids += heard
            answer = await generator.generate(number, ids, Sampling(max_tokens=count), 1000 * number + turn)
            ids += answer.ids
        generator.close(number)

    async def main() -> None:
        generator = make()
        await asyncio.gather(*(session(generator, number) for number in range(len(plan))))
        if isinstance(generator, SglangGenerator):
            await generator.aclose()

    asyncio.run(main())


def start(model: CausalLM, device: str, rows: int) -> str:
    """The address of a server in threads of this process, which ends with it."""
    tokenizer = train_tokenizer(["hello\n"], 300, ["<|im_end|>"])
    served = Scheduler(model, tokenizer, hardware(device), rows)
    app = Service(served, "random", model.shape.vocab_size, model.shape.context, ()).app(TOKEN, "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--prompt", type=int, default=400, help="tokens that all sessions begin with")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    model = random_model(SHAPES[given.shape], given.device).requires_grad_(False)
    plan = make_plan(given.sessions, given.turns, 0, 0, model.shape.vocab_size)
    draw = random.Random(1)
    prompt = [draw.randrange(model.shape.vocab_size) for _ in range(given.prompt)]
    said = sum(count for session in plan for _, count in session)

    url = start(model, given.device, given.sessions)
    rates = {}
    for name, make in (
        ("in process", lambda: TorchGenerator(model, EngineConfig(lockstep=False))),
        ("through the server", lambda: SglangGenerator(PolicyConfig(url=url, timeout=600), TOKEN)),
    ):
        rates[name] = said / cost(lambda m=make: play(m, plan, prompt), given.device, given.repeats)
    unit = "CPU s" if given.device == "cpu" else "s"
    for name, rate in rates.items():
        print(f"{name:26} {rate:9.0f} tokens/{unit}   in process: {rates['in process'] / rate:5.2f} ×")


if __name__ == "__main__":
    main()
