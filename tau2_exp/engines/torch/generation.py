"""Token ids in, sampled ids and log-probabilities out: many sessions, one model, a cache kept across turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.cache import Cache, Row
from tau2_exp.engines.torch.model import Qwen3
from tau2_exp.engines.torch.sampling import sample, uniforms
from tau2_exp.types import FaultError, FaultSource, Generation, Sampling

QUIET_PASSES = 3  # passes of the event loop without news before a lockstep batch counts as complete


@dataclass(eq=False, slots=True)
class _Request:
    """One turn being sampled. `feed` is what the model has not seen yet; empty ids mean it is not yet prefilled."""

    feed: list[int]
    sampling: Sampling
    draws: list[float]
    future: asyncio.Future[Generation]
    started: bool = False
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Session:
    paused: bool = False
    row: Row | None = None
    request: _Request | None = None


class TorchGenerator:
    """A `types.Generator` over a model on a CPU or one GPU, with continuous batching.

    Each iteration feeds one token of every row that decodes, together with the new context of rows that join.
    In lockstep an iteration waits until every open, unpaused session has asked: the batch is then made by
    session number, never by arrival, and one seed gives one result bit for bit.
    """

    def __init__(self, model: Qwen3, engine: EngineConfig):
        self.model = model
        self._lockstep = engine.lockstep
        self._batch_tokens = engine.batch_tokens
        self._sessions: dict[int, _Session] = {}
        self._cache = self._new_cache()
        self._weights = self._weights_version()
        self._news = 0
        self._changed: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ the protocol

    def open(self, session: int) -> None:
        if session in self._sessions:
            raise ValueError(f"session {session} is already open")
        self._sessions[session] = _Session()
        self._announce()

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """Continue `ids`. Raises FaultError(ENGINE) where the engine broke, ValueError on a wrong call."""
        state = self._sessions.get(session)
        if state is None:
            raise ValueError(f"session {session} is not open")
        if state.request is not None:
            raise ValueError(f"session {session} already generates")
        if not ids or sampling.max_tokens < 1:
            raise ValueError("generation needs at least one token of context, and one to make")
        draws = uniforms(seed, sampling.max_tokens)
        future = asyncio.get_running_loop().create_future()
        state.request = _Request(list(ids), sampling, draws, future)
        state.paused = False
        self._announce()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    def pause(self, session: int) -> None:
        self._sessions[session].paused = True
        self._announce()

    def close(self, session: int) -> None:
        state = self._sessions.pop(session)
        if state.request is not None:
            state.request.future.cancel()
        if state.row is not None:
            self._cache.release(state.row)
        self._announce()

    def reset(self) -> None:
        """Forget what is cached: the weights have changed. A session's next turn is computed afresh."""
        if any(state.request and state.request.started for state in self._sessions.values()):
            raise RuntimeError("the cache cannot be dropped while rows decode")
        for state in self._sessions.values():
            state.row = None
        self._cache = self._new_cache()
        self._weights = self._weights_version()

    # ------------------------------------------------------------ the loop

    async def _run(self) -> None:
        self._changed = asyncio.Event()
        if self._weights != self._weights_version():
            self.reset()
        try:
            while self._live():
                await self._gather()
                self._iterate()
        except Exception as error:
            self._fail(error)

    async def _gather(self) -> None:
        """Let the others run: until nobody is missing and nothing moves in lockstep, else one pass."""
        if not self._lockstep:
            await asyncio.sleep(0)
            return
        quiet = 0
        while quiet < QUIET_PASSES:
            if any(s.request is None and not s.paused for s in self._sessions.values()):
                self._changed.clear()
                await self._changed.wait()
            news = self._news
            await asyncio.sleep(0)
            quiet = quiet + 1 if news == self._news else 0

    def _announce(self) -> None:
        self._news += 1
        if self._changed is not None:
            self._changed.set()

    def _live(self) -> list[_Session]:
        """The sessions that ask, in the order of their numbers."""
        for state in self._sessions.values():
            if state.request is not None and state.request.future.done():
                state.request = None  # its asker was cancelled
        return [state for _, state in sorted(self._sessions.items()) if state.request is not None]

    @torch.inference_mode()
    def _iterate(self) -> None:
        live = self._live()
        if not live:
            return
        decodes = [state for state in live if state.request.started]
        self._cache.order([state.row for state in decodes])
        decodes.sort(key=lambda state: state.row.slot)
        joining = self._admit([state for state in live if not state.request.started])
        batch = decodes + joining
        ids, log_probs = self._forward(batch, len(decodes))
        for state, token, log_prob in zip(batch, ids, log_probs, strict=True):
            self._take(state, token, log_prob)

    def _admit(self, waiting: Sequence[_Session]) -> list[_Session]:
        """As many as one pass may prefill; their requests are cut to what the cache does not hold."""
        admitted, tokens = [], 0
        for state in waiting:
            if state.row is None:
                state.row = self._cache.acquire()
            known = _common_prefix(state.row.ids, state.request.feed)
            if admitted and tokens + len(state.request.feed) - known > self._batch_tokens:
                break
            del state.row.ids[known:]
            del state.request.feed[:known]
            state.request.started = True
            tokens += len(state.request.feed)
            admitted.append(state)
        return admitted

    def _forward(self, batch: Sequence[_Session], decodes: int) -> tuple[list[int], list[float]]:
        """The next token of each row of the batch, whose first `decodes` rows feed one token each."""
        requests = [state.request for state in batch]
        ids = [token for request in requests for token in request.feed]
        positions = [p for s in batch for p in range(len(s.row.ids), len(s.row.ids) + len(s.request.feed))]
        attend = self._cache.step(
            [state.row for state in batch[:decodes]],
            [(state.row, len(state.request.feed)) for state in batch[decodes:]],
            ids,
        )
        tokens, places = torch.tensor([ids, positions], device=self.model.device)
        hidden = self.model.hidden(tokens, places, attend)
        if len(ids) > len(batch):
            ends = torch.tensor([len(request.feed) for request in requests]).cumsum(0) - 1
            hidden = hidden[ends.to(hidden.device)]
        draws = [request.draws[len(request.ids)] for request in requests]
        sampled, log_probs = sample(self.model.logits(hidden), draws, [request.sampling for request in requests])
        return sampled.tolist(), log_probs.tolist()

    def _take(self, state: _Session, token: int, log_prob: float) -> None:
        request = state.request
        request.ids.append(token)
        request.log_probs.append(log_prob)
        request.feed = [token]
        stopped = token in request.sampling.stop_ids
        if stopped or len(request.ids) >= request.sampling.max_tokens:
            finish = "stop" if stopped else "length"
            request.future.set_result(Generation(tuple(request.ids), tuple(request.log_probs), finish))
            state.request = None

    def _fail(self, error: Exception) -> None:
        """The engine broke: every asker hears why, and nothing half-written is kept."""
        for state in self._sessions.values():
            if state.request is not None and not state.request.future.done():
                message = f"{type(error).__name__}: {error}"
                state.request.future.set_exception(FaultError(FaultSource.ENGINE, message))
            state.request = None
        self.reset()

    def _new_cache(self) -> Cache:
        return Cache(self.model.shape, self.model.device, self.model.head.dtype)

    def _weights_version(self) -> int:
        """Grows with every in-place change of a weight."""
        return sum(parameter._version for parameter in self.model.parameters())


def _common_prefix(cached: list[int], wanted: list[int]) -> int:
    """How many tokens of `wanted` the cache holds; at least its last one is left to be fed."""
    limit = min(len(cached), len(wanted) - 1)
    if cached[:limit] == wanted[:limit]:
        return limit
    return next(i for i in range(limit) if cached[i] != wanted[i])
