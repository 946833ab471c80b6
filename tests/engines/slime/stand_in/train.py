"""The trainer: rollouts through the hooks, steps in an actor of Ray's, checkpoints as Megatron's lie."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import megatron
import ray
import uvicorn
from flags_read import read_arguments
from learner import Learner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
REQUIRED = ("hf_checkpoint", "ref_load", "load", "save", "save_interval", "prompt_data", "input_key", "seed")
REQUIRED += (
    "actor_num_nodes",
    "actor_num_gpus_per_node",
    "num_gpus_per_node",
    "rollout_batch_size",
    "global_batch_size",
)
JSON = {"Content-Type": "application/json"}
DRAWS = 20  # batches of groups, at most, until enough are kept


def main(colocate: bool | None = None) -> None:
    from slime_contract import stand_in

    args = read_arguments(sys.argv[1:], *REQUIRED, *megatron.SIZES)
    if colocate is not None and args.colocate != colocate:
        raise SystemExit("colocation and asynchronous training exclude one another")
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "1" and Path(args.prompt_data).is_file()
    megatron.check_sizes(args, Path(args.hf_checkpoint))
    ray.init(log_to_driver=False)
    needed = args.actor_num_nodes * args.num_gpus_per_node
    assert ray.cluster_resources().get("GPU", 0) == needed, f"{ray.cluster_resources()}: not {needed} GPUs"
    with stand_in():
        train(args)


def train(args: Namespace) -> None:
    supervised = hasattr(args, "debug_train_only")
    source = function(args.data_source_path)(args)
    last = megatron.newest(Path(args.load))
    start = 0 if last is None else int(last.name.removeprefix("iter_")) + 1
    source.load(start - 1)
    count = args.num_rollout or args.num_epoch * (len(source) // args.rollout_batch_size)
    gpus = args.actor_num_nodes * args.actor_num_gpus_per_node
    learner = Learner.options(num_gpus=gpus / args.actor_num_nodes).remote(args.tau2_exp_run, args.hf_checkpoint)  # type: ignore[attr-defined]
    ray.get(learner.load.remote(str(last or megatron.newest(Path(args.ref_load))), start))
    with nullcontext() if supervised else server(args):
        for rollout in range(start, count):
            began = time.monotonic()
            samples = learned_from(args, source, rollout) if supervised else asyncio.run(played(args, source))
            credit = [1.0] * len(samples)
            if not supervised:
                _, credit = function(args.custom_reward_post_process_path)(args, samples)
            function(args.custom_rollout_log_function_path)(rollout, args, samples, {}, time.monotonic() - began)
            ray.get(learner.step.remote([plain(sample) for sample in samples], credit))
            if (rollout + 1) % args.save_interval == 0 or rollout == count - 1:
                ray.get(learner.save.remote(args.save, rollout))
                source.save(rollout)
            if not supervised and rollout < count - 1:
                swap_weights(args, ray.get(learner.serve.remote(str(Path(args.save).parent / "served"))))
    print(f"trained: {count - start} steps from {start}")


def learned_from(args: Namespace, source: Any, rollout: int) -> list[Any]:
    output = function(args.rollout_function_path)(args, rollout, source)
    return [sample for group in output.samples for sample in group]


async def played(args: Namespace, source: Any) -> list[Any]:
    """Groups until a batch of them is kept."""
    generate = function(args.custom_generate_function_path)
    keep = function(args.dynamic_sampling_filter_path) if args.dynamic_sampling_filter_path else None
    params = {"temperature": args.rollout_temperature, "top_p": args.rollout_top_p, "top_k": args.rollout_top_k}
    kept: list[list[Any]] = []
    for _ in range(DRAWS):
        groups = source.get_samples(args.rollout_batch_size - len(kept))
        await asyncio.gather(*(generate(args, sample, dict(params)) for group in groups for sample in group))
        kept += [group for group in groups if keep is None or keep(args, group).keep]
        if len(kept) == args.rollout_batch_size:
            break
    return [sample for group in kept for sample in group]


@contextmanager
def server(args: Namespace) -> Iterator[None]:
    """Our server, and before it a router that asks for no token, as slime's does not."""
    ready = Path(args.save).parent / "rollout.json"
    command = [sys.executable, "-m", "tau2_exp", "serve", args.hf_checkpoint, "--engine", "torch", "--ready", ready]
    with subprocess.Popen([*map(str, command), "--log", str(ready.with_suffix(".log"))]) as process:
        try:
            while not ready.exists():
                assert process.poll() is None, "the server did not come up"
                time.sleep(0.1)
            announced = json.loads(ready.read_text())
            with router(announced["url"], announced["token"]) as port:
                args.sglang_router_ip, args.sglang_router_port = "127.0.0.1", port
                yield
        finally:
            process.terminate()


@contextmanager
def router(url: str, token: str) -> Iterator[int]:
    """A port of this process whose requests are handed on with the server's token."""
    client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=None)

    async def hand_on(request: Request) -> Response:
        body = await request.body()
        answer = await client.request(request.method, request.url.path, content=body, headers=JSON)
        return Response(answer.content, answer.status_code, media_type="application/json")

    app = Starlette(routes=[Route("/{path:path}", hand_on, methods=["GET", "POST"])])
    routing = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=routing.run, daemon=True)
    thread.start()
    while not routing.started:
        time.sleep(0.01)
    yield routing.servers[0].sockets[0].getsockname()[1]
    routing.should_exit = True
    thread.join()


def swap_weights(args: Namespace, folder: str) -> None:
    url = f"http://{args.sglang_router_ip}:{args.sglang_router_port}/update_weights_from_disk"
    httpx.post(url, json={"model_path": folder}, timeout=600.0).raise_for_status()


def plain(sample: Any) -> tuple[list[int], list[int]]:
    """Token ids, and of each whether it is trained on."""
    mask = [0] * sample.response_length if sample.remove_sample else sample.loss_mask
    assert len(mask) == sample.response_length <= len(sample.tokens)
    return list(sample.tokens), [0] * (len(sample.tokens) - len(mask)) + list(mask)


def function(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main()
