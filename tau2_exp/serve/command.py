"""`python -m tau2_exp serve MODEL`."""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from tau2_exp.serve.service import LOOPBACK, Engine, Role, Service, check, find_model
from tau2_exp.serve.token import find_token
from tau2_exp.serve.watch import Failed, Patience, serve

DESCRIPTION = """Serve one model until this process, or the one that started it, ends.
A server that dies or stalls is restarted at the same address. On exit the server is stopped."""
FAILED = 1


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `serve` to the parser."""
    command = commands.add_parser(
        "serve", help="serve a model with SGLang, or a small one with the torch engine", description=DESCRIPTION
    )
    command.add_argument("model", metavar="MODEL", help="a run's folder, a checkpoint's folder, or a hub name")
    command.add_argument(
        "--role",
        choices=[role.value for role in Role],
        default="policy",
        help="policy: SGLang's /generate; user: OpenAI-compatible /v1",
    )
    command.add_argument(
        "--engine", choices=[engine.value for engine in Engine], help="default: sglang where it is installed"
    )
    command.add_argument(
        "--gpus", default="", metavar="0,1", help="GPUs to serve on; SGLang splits the model across them"
    )
    command.add_argument("--host", default=LOOPBACK, help="address to bind (default 127.0.0.1)")
    command.add_argument(
        "--port", type=int, metavar="N", default=0, help="port to bind; 0 (the default): any free port"
    )
    command.add_argument(
        "--ready", type=Path, metavar="FILE", help="write {url, pid, token} here while the server is healthy"
    )
    command.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="log file of the server (default: beside the ready file, else in logs/)",
    )
    command.add_argument(
        "--token-env", metavar="NAME", help="variable with the token that clients send (default: a new token)"
    )
    bound = {"type": float, "metavar": "N"}
    command.add_argument("--seconds", **bound, default=Patience.start, help="startup timeout in seconds")
    command.add_argument(
        "--stall-seconds", **bound, default=Patience.stall, help="restart after so many seconds without an answer"
    )
    command.add_argument("--context", type=int, metavar="N", help="context length in tokens (default: the model's)")
    command.add_argument("--memory-fraction", **bound, help="share of GPU memory for SGLang's weights and cache")
    command.add_argument("--at-once", type=int, metavar="N", help="requests generated concurrently")
    command.add_argument("--threads", type=int, metavar="N", default=1, help="CPU threads of the torch engine")
    command.add_argument(
        "--flags", default="", metavar="TEXT", help="further SGLang flags: --flags='--watchdog-timeout 600'"
    )
    command.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    gpus = tuple(gpu.strip() for gpu in given.gpus.split(",") if gpu.strip())
    default = Engine.sglang if gpus or find_spec("sglang") else Engine.torch
    service = Service(
        model=find_model(given.model),
        role=Role(given.role),
        engine=Engine(given.engine or default),
        gpus=gpus,
        host=given.host,
        port=given.port,
        context=given.context,
        memory_fraction=given.memory_fraction,
        at_once=given.at_once,
        threads=given.threads,
        flags=tuple(shlex.split(given.flags)),
    )
    check(service)
    token = find_token(given.token_env)
    folder = given.ready.parent if given.ready else Path("logs")
    log = given.log or folder / f"{service.role.value}.log"
    try:
        serve(service, token, given.ready, log, Patience(start=given.seconds, stall=given.stall_seconds))
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return 0
