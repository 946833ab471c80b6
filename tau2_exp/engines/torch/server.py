"""A server with SGLang's /generate over this engine: a model on a CPU or one GPU for tests, laptops, other processes.

Started by `python -m tau2_exp serve MODEL --engine torch`, which gives it a socket that already listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tau2_exp.config import ConfigError, Dtype, HardwareConfig, OutOfMemory
from tau2_exp.engines.torch.checkpoint import end_ids, load_model, local_folder
from tau2_exp.engines.torch.guard import BODY_BYTES, Guard, too_long
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.engines.torch.wire import Refused, read_abort, read_body, read_request, read_swap
from tau2_exp.policies.sglang import NO_MEMORY
from tau2_exp.types import FaultError

HEALTH_SECONDS = 20.0  # for one token, as with SGLang
LAST_SECONDS = 3  # open requests get to be answered when the server is ended
GONE = 499  # nobody reads the answer


class TooLong(Exception):
    """A body has more than BODY_BYTES; its rest is not read."""


class Service:
    """The HTTP routes of one served model, as SGLang has them. `context` is the context length in tokens."""

    def __init__(self, scheduler: Scheduler, path: str, vocab_size: int, context: int, eos: Sequence[int]):
        self._scheduler, self._path = scheduler, path
        self._vocab_size, self._context, self._eos = vocab_size, context, eos

    def app(self, token: str, host: str) -> Starlette:
        """The ASGI application of a server that listens on `host`; clients must send `token`."""
        return Starlette(
            middleware=[Middleware(Guard, token, host)],
            routes=[
                Route("/generate", _answered(self.generate), methods=["POST", "PUT"]),
                Route("/abort_request", _answered(self.abort), methods=["POST"]),
                Route("/update_weights_from_disk", _answered(self.update), methods=["POST"]),
                Route("/health", self.health),
                Route("/health_generate", self.health_generate),
                Route("/get_model_info", self.info),
                Route("/model_info", self.info),
            ],
        )

    async def generate(self, http: HttpRequest, body: dict[str, Any]) -> Response:
        """POST /generate: sample one turn; 499 where the client hangs up. Raises Refused or FaultError."""
        request = read_request(body, self._vocab_size, self._context, self._eos)
        made = await _unless_gone(http, self._scheduler.generate(request))
        return JSONResponse(made) if made is not None else Response(status_code=GONE)

    async def abort(self, http: HttpRequest, body: dict[str, Any]) -> Response:
        """POST /abort_request: end the turn of one request, or of all. Raises Refused."""
        await self._scheduler.abort(read_abort(body))
        return Response()

    async def update(self, http: HttpRequest, body: dict[str, Any]) -> Response:
        """POST /update_weights_from_disk: load a checkpoint's weights; 400 where that fails. Raises Refused."""
        swap = read_swap(body)
        try:
            folder = local_folder(swap.path)
            await self._scheduler.swap(folder, swap.version, swap.abort)
        except ConfigError as error:
            return JSONResponse({"success": False, "message": str(error)}, 400)
        self._path = str(folder)
        return JSONResponse({"success": True, "message": f"weights of {folder}", "num_paused_requests": 0})

    async def health(self, http: HttpRequest) -> Response:
        """GET /health: 200 while the server runs."""
        return Response()

    async def health_generate(self, http: HttpRequest) -> Response:
        """GET /health_generate: 200 where the model samples a token within HEALTH_SECONDS, else 503."""
        try:
            await asyncio.wait_for(self._scheduler.beat(), HEALTH_SECONDS)
        except (TimeoutError, FaultError):
            return Response(status_code=503)
        return Response()

    async def info(self, http: HttpRequest) -> Response:
        """GET /model_info: the model's path, the version of its weights, and its context length in tokens."""
        return JSONResponse(
            {
                "model_path": self._path,
                "is_generation": True,
                "weight_version": self._scheduler.version,
                "context_length": self._context,
            }
        )


Handler = Callable[[HttpRequest, dict[str, Any]], Awaitable[Response]]


def _answered(handle: Handler) -> Callable[[HttpRequest], Awaitable[Response]]:
    """The route of a handler of JSON bodies; its errors become responses as SGLang has them."""

    async def route(http: HttpRequest) -> Response:
        try:
            return await handle(http, read_body(await _body(http)))
        except Refused as error:
            return _error(400, str(error))
        except TooLong:
            return too_long()
        except FaultError as error:
            return _error(500, str(error))
        except OutOfMemory as error:
            return _error(NO_MEMORY, str(error))
        except ClientDisconnect:
            return Response(status_code=GONE)

    return route


async def _body(http: HttpRequest) -> bytes:
    """A request's body. Raises TooLong, also where the request gave no length."""
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLong
    return bytes(body)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status)


async def _unless_gone(http: HttpRequest, work: Any) -> Any:
    """The result of `work`; None, and `work` is cancelled, where the client hangs up first."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a model until the process is ended; the exit status, 2 where the model cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a checkpoint's folder, or a hub name")
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of a socket that listens")
    parser.add_argument("--host", required=True, help="the address that it listens on")
    parser.add_argument("--key-file", type=Path, required=True, help="JSON with api-key, the token of its clients")
    parser.add_argument("--context", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=[dtype.value for dtype in Dtype], default=Dtype.float32.value)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=96)
    given = parser.parse_args(argv)
    token = json.loads(given.key_file.read_text())["api-key"]
    hardware = HardwareConfig(name="serve", device=given.device, dtype=Dtype(given.dtype), threads=given.threads)
    try:
        tokenizer, model = load_tokenizer(given.model), load_model(given.model, hardware)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    context = min(given.context or model.context, model.context)
    scheduler = Scheduler(model.requires_grad_(False), tokenizer, hardware, given.at_once, context)
    service = Service(scheduler, given.model, model.vocab_size, context, end_ids(given.model))
    config = uvicorn.Config(
        service.app(token, given.host),
        log_level="warning",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    print(f"serving {given.model}: {context} tokens of context, {given.at_once} requests at once", flush=True)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.socket)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
