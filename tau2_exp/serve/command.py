"""`python -m tau2_exp serve MODEL`."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from tau2_exp.serve.service import LOOPBACK, Engine, Role, Service, check, find_model
from tau2_exp.serve.watch import Failed, Patience, serve

DESCRIPTION = """Serve one model until this process is asked to end, or the one that started it dies.
A server that dies or stalls is started again at the same address; everything that was started is ended."""
FAILED = 1


def register(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "serve", help="serve a model by SGLang, or a small one by the torch engine", description=DESCRIPTION
    )
    command.add_argument("model", metavar="MODEL", help="a run's folder, a checkpoint's folder, or a hub name")
    command.add_argument("more", nargs="*", metavar="-- FLAG", help="further flags of SGLang's own, after --")
    command.add_argument("--role", type=Role, choices=list(Role), default=Role.policy, help="a user is asked by /v1")
    command.add_argument("--engine", type=Engine, choices=list(Engine), help="sglang where it is installed")
    command.add_argument("--gpus", default="", metavar="0,1", help="the GPUs to serve on; SGLang divides the model")
    command.add_argument("--host", default=LOOPBACK, help="loopback unless told otherwise: anyone may ask a server")
    command.add_argument("--port", type=int, default=0, help="0: any that is free")
    command.add_argument("--ready", type=Path, metavar="FILE", help="JSON with url and pid, there while it answers")
    command.add_argument("--log", type=Path, metavar="FILE", help="what the server writes; beside the ready file")
    command.add_argument("--seconds", type=float, default=Patience.start, help="until it must answer")
    command.add_argument("--stall-seconds", type=float, default=Patience.stall, help="without an answer, then restart")
    command.add_argument("--context", type=int, metavar="TOKENS", help="the model's own unless given")
    command.add_argument("--memory-fraction", type=float, help="of a GPU, for SGLang's weights and cache")
    command.add_argument("--at-once", type=int, metavar="N", help="requests generated at once")
    command.add_argument("--threads", type=int, default=1, help="of the torch engine on a CPU")
    command.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    gpus = tuple(gpu.strip() for gpu in given.gpus.split(",") if gpu.strip())
    sglang = bool(gpus) or find_spec("sglang") is not None
    service = Service(
        model=find_model(given.model),
        role=given.role,
        engine=given.engine or (Engine.sglang if sglang else Engine.torch),
        gpus=gpus,
        host=given.host,
        port=given.port,
        context=given.context,
        memory_fraction=given.memory_fraction,
        at_once=given.at_once,
        threads=given.threads,
        more=tuple(given.more),
    )
    check(service)
    folder = given.ready.parent if given.ready else Path("logs")
    log = given.log or folder / f"{service.role.value}.log"
    try:
        serve(service, given.ready, log, Patience(start=given.seconds, stall=given.stall_seconds))
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return 0
