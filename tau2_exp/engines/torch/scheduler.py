"""The model in a thread and an event loop of its own, so that no caller's event loop waits for a forward pass."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tau2_exp.config import ConfigError, EngineConfig, HardwareConfig
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.slots import CacheSlots
from tau2_exp.engines.torch.tokenizer import TextTokenizer
from tau2_exp.engines.torch.wire import Refused, Request, answer, whole_turn
from tau2_exp.types import Generation, Sampling

T = TypeVar("T")

PROBE = Sampling(temperature=0.0, max_tokens=1)
BEAT_SECONDS = 0.05  # between looks at whether the model still moves


@dataclass(eq=False, slots=True)
class _Guest:
    """A request that was let in; it has a session once it has a slot."""

    session: int | None = None
    aborted: bool = False


class Scheduler:
    """Takes requests from any event loop; at most `rows` of at most `longest` tokens are generated at the same time."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: TextTokenizer,
        hardware: HardwareConfig,
        rows: int,
        longest: int | None = None,
    ):
        self.version = "default"
        self._model, self._tokenizer, self._hardware = model, tokenizer, hardware
        self._generator = TorchGenerator(model, EngineConfig(lockstep=False), longest)
        self._slots = CacheSlots(self._generator, rows)
        self._guests: dict[str | int, _Guest] = {}  # requests by their names, probes by their sessions
        self._probes = itertools.count(1)
        self._admits, self._empty, self._swapping = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._admits.set()
        self._empty.set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="model", daemon=True).start()

    async def generate(self, request: Request) -> dict[str, Any]:
        """The JSON answer to a request. Cancelling the call ends the turn.

        Raises Refused where a request of that name is running, FaultError where the engine failed.
        """
        return await self._call(self._generate(request))

    async def abort(self, name: str | None) -> None:
        """End the named request, or all (None); each is answered with what was sampled so far."""
        await self._call(self._abort(name))

    async def swap(self, path: Path, version: str | None, abort: bool) -> None:
        """Load the weights of another checkpoint. Raises ConfigError where they do not fit, and keeps the old ones.

        Running turns end first, or are aborted; those that come meanwhile wait.
        """
        await self._call(self._swap(path, version, abort))

    async def beat(self) -> None:
        """Wait until the model has made one more token."""
        await self._call(self._beat())

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # ------------------------------------------------------------ on the model's own loop

    async def _generate(self, request: Request) -> dict[str, Any]:
        began = time.monotonic()
        async with self._let_in(request.name) as guest, self._slots.take(request.ids) as slot:
            guest.session = slot.session
            generation = Generation((), (), "abort")
            if not guest.aborted:
                generation = await self._turn(request, slot.session)
        about = {
            "cached_tokens": slot.cached,
            "weight_version": self.version,
            "e2e_latency": time.monotonic() - began,
        }
        return answer(request, generation, self._tokenizer, about)

    @asynccontextmanager
    async def _let_in(self, name: str | int) -> AsyncIterator[_Guest]:
        while not self._admits.is_set():
            await self._admits.wait()
        if name in self._guests:
            raise Refused(f"rid={name}: a request of that name is under way")
        guest = self._guests[name] = _Guest()
        self._empty.clear()
        try:
            yield guest
        finally:
            del self._guests[name]
            if not self._guests:
                self._empty.set()

    async def _turn(self, request: Request, session: int) -> Generation:
        def ends(ids: Sequence[int]) -> bool:
            return whole_turn(request.stops, self._tokenizer, ids) is not None

        seed = secrets.randbits(63) if request.seed is None else request.seed
        return await self._generator.generate(
            session, request.ids, request.sampling, seed, ends if request.stops else None
        )

    async def _abort(self, name: str | None) -> None:
        for key, guest in self._guests.items():
            if name in (None, key):
                guest.aborted = True
                if guest.session is not None:
                    self._generator.abort(guest.session)

    async def _swap(self, path: Path, version: str | None, abort: bool) -> None:
        async with self._swapping:
            self._admits.clear()
            try:
                if abort:
                    await self._abort(None)
                await self._empty.wait()
                self._load(path)
                self.version = version or self.version
            finally:
                self._admits.set()

    def _load(self, path: Path) -> None:
        fresh = load_model(path, self._hardware)
        if fresh.config != self._model.config:
            raise ConfigError(f"{path}: its config.json differs from the served model's; serve it separately")
        self._model.load_state_dict(fresh.state_dict())
        self._slots.forget()
        self._generator.reset()

    async def _beat(self) -> None:
        before = self._generator.passes
        while self._guests and self._generator.passes == before:
            await asyncio.sleep(BEAT_SECONDS)
        if self._generator.passes == before:
            await self._probe()

    async def _probe(self) -> None:
        session = -next(self._probes)
        async with self._let_in(session):
            self._generator.open(session)
            try:
                await self._generator.generate(session, [0], PROBE, 0)
            finally:
                self._generator.close(session)
