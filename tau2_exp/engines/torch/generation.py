"""Token ids in, sampled ids and log-probabilities out: many sessions, one model, a cache kept across turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import torch

from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.backbone import LanguageModel, SessionCache
from tau2_exp.engines.torch.cache import Row
from tau2_exp.engines.torch.device import SAMPLING, memory_for
from tau2_exp.engines.torch.room import Room
from tau2_exp.engines.torch.sampling import entropies, sample, uniforms
from tau2_exp.engines.torch.turns import Ends, Request, Turn, answer, refuse
from tau2_exp.types import Generation, Sampling

QUIET_PASSES = 3  # passes of the event loop without news before a lockstep batch counts as complete


class TorchGenerator:
    """An `interfaces.Generator` over a model on a CPU or one GPU, with continuous batching.

    Each iteration feeds one token of every row that decodes, together with the new context of rows that join.
    In lockstep an iteration waits until every open session has a turn: the batch is then ordered by session number,
    never by arrival, and one seed gives one result bit for bit. A session without further turns must be closed, or all
    others wait.

    What the first contexts of sessions have in common is computed and kept once. A session joins when the cache has
    room for it to grow to `longest` tokens (None: the model's context), beside those that have joined.
    """

    def __init__(self, model: LanguageModel, engine: EngineConfig, longest: int | None = None):
        self.model = model
        self._room = Room(engine, model.device, min(longest or model.context, model.context))
        self._lockstep = engine.lockstep
        self._batch_tokens = engine.batch_tokens
        self._open: set[int] = set()
        self._waiting: dict[int, Request] = {}
        self._turns: dict[int, Turn] = {}
        self._rows: dict[int, Row] = {}
        self._cache: SessionCache = self.model.new_cache(self._room)
        self._weights = self.model.weights_version
        self._news = 0
        self.passes = self.computed = 0  # through the model, and tokens that they fed, so far
        self.crowded = False  # whether a session waits for room in the cache
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ the protocol

    def open(self, session: int) -> None:
        """Open a session. Raises ValueError where it is already open."""
        if session in self._open:
            raise ValueError(f"session {session} is already open")
        self._open.add(session)
        self._announce()

    async def generate(
        self, session: int, ids: Sequence[int], sampling: Sampling, seed: int, ends: Ends | None = None
    ) -> Generation:
        """Sample a turn that continues `ids`, until a stop id, `ends` of the turn's ids, or max_tokens ends it.

        A wrong call raises ValueError before the turn joins the batch, so that no other turn fails with it. Raises
        FaultError(ENGINE) where the engine or `ends` fails, OutOfMemory where it has no memory.
        """
        if session not in self._open:
            raise ValueError(f"session {session} is not open")
        if session in self._waiting or session in self._turns:
            raise ValueError(f"session {session} already generates")
        if not ids or sampling.max_tokens < 1:
            raise ValueError("generation needs at least one token of context, and one to make")
        if not 0 <= min(ids) <= max(ids) < self.model.vocab_size:
            raise ValueError(f"token ids go from 0 to {self.model.vocab_size - 1}")
        draws = uniforms(seed, sampling.max_tokens)
        future = asyncio.get_running_loop().create_future()
        self._waiting[session] = Request(list(ids), sampling, draws, future, ends)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        self._announce()
        try:
            return await future
        except asyncio.CancelledError:
            self._drop(session)
            raise

    def close(self, session: int) -> None:
        """Close a session, cancel its turn and free its row. Raises KeyError where it is not open."""
        self._open.remove(session)
        self._drop(session)
        row = self._rows.pop(session, None)
        if row is not None:
            self._cache.release(row)
        if not self._open:  # its memory is free while the model trains, and what follows begins as in a fresh process
            self.reset()

    def abort(self, session: int) -> None:
        """End a session's turn early: `generate` returns what was sampled so far, with the finish "abort"."""
        turn, request = self._turns.pop(session, None), self._waiting.pop(session, None)
        if turn is not None:
            answer(turn.future, Generation(tuple(turn.ids), tuple(turn.log_probs), "abort"))
        elif request is not None:
            answer(request.future, Generation((), (), "abort"))
        self._announce()

    def cached(self, session: int) -> list[int]:
        """The session's cached tokens, which are not computed again where its next context begins with them."""
        row = self._rows.get(session)
        return row.ids if row else []

    @property
    def cache_bytes(self) -> int:
        """What the cache takes now, filled or not."""
        return self._cache.bytes

    def has_room(self, ids: Sequence[int]) -> bool:
        """Whether the cache has room for a session with the context `ids`."""
        return self._cache.has_room(ids)

    def begin(self, session: int, ids: Sequence[int]) -> int:
        """Give a session its row before its first turn, whose context is `ids`; how many tokens of it are cached."""
        with memory_for("sampling", SAMPLING):
            row = self._rows[session] = self._cache.acquire(ids)
        return len(row.ids)

    def reset(self) -> None:
        """Drop the cache, as new weights require. Raises RuntimeError while rows decode."""
        if self._turns:
            raise RuntimeError("the cache cannot be dropped while rows decode")
        self._rows.clear()
        self._cache = self.model.new_cache(self._room)
        self._weights = self.model.weights_version

    # ------------------------------------------------------------ the loop

    async def _run(self) -> None:
        self._changed = asyncio.Event()
        if self._weights != self.model.weights_version:
            self.reset()
        try:
            while self._waiting or self._turns:
                await self._gather()
                self._iterate()
        except Exception as error:
            self._fail(error)

    async def _gather(self) -> None:
        """Yield to the event loop: once, or in lockstep until every open session has a turn and nothing changes."""
        if not self._lockstep:
            await asyncio.sleep(0)
            return
        quiet = 0
        while quiet < QUIET_PASSES:
            if self._somebody_is_missing():
                self._changed.clear()
                await self._changed.wait()
            news = self._news
            await asyncio.sleep(0)
            quiet = quiet + 1 if news == self._news else 0

    def _somebody_is_missing(self) -> bool:
        asking = len(self._waiting) + len(self._turns)
        return asking < len(self._open)

    def _announce(self) -> None:
        self._news += 1
        self._changed.set()

    def _drop(self, session: int) -> None:
        """Cancel a session's turn, and the future that waits for it."""
        asked = self._waiting.pop(session, None) or self._turns.pop(session, None)
        if asked is not None:
            asked.future.cancel()
        self._announce()

    @torch.inference_mode()
    def _iterate(self) -> None:
        self._cache.order([turn.row for turn in self._turns.values()])
        decoding = sorted(self._turns, key=lambda session: self._turns[session].row.slot)
        sessions = decoding + self._admit()
        if not sessions:
            return
        turns = [self._turns[session] for session in sessions]
        self.computed += sum(len(turn.feed) for turn in turns)
        ids, log_probs = self._forward(turns, len(decoding))
        self.passes += 1
        for session, token, log_prob in zip(sessions, ids, log_probs, strict=True):
            self._take(session, token, log_prob)

    def _admit(self) -> list[int]:
        """Let sessions join, in the order of their numbers: as many as there is room for and a pass may prefill."""
        admitted: list[int] = []
        tokens, stuck, self.crowded = 0, not self._turns, False
        waiting = sorted(self._waiting.items())
        first = [request.ids for session, request in waiting if session not in self._rows]
        for session, request in waiting:
            row = self._rows.get(session)
            if row is None and (self.crowded or not self._make_room(request.ids, stuck)):
                self.crowded = True
                continue
            known = self._cache.cut(row, request.known(row.ids)) if row else self._cache.held(request.ids)
            tokens += len(request.ids) - known
            if admitted and tokens > self._batch_tokens:
                break
            if row is None:
                del first[0]
                row = self._rows[session] = self._cache.acquire(request.ids, first)
            self._turns[session] = request.begin(row)
            del self._waiting[session]
            admitted.append(session)
        return admitted

    def _make_room(self, ids: Sequence[int], stuck: bool) -> bool:
        """Whether there is room for a context; where nobody decodes, idle sessions lose their rows for it."""
        while not self._cache.has_room(ids):
            idle = next((s for s in self._rows if s not in self._turns and s not in self._waiting), None)
            if not stuck or idle is None:
                return False
            self._cache.release(self._rows.pop(idle))
        return True

    def _forward(self, turns: Sequence[Turn], decoding: int) -> tuple[list[int], list[float]]:
        """The next token of each turn and its log-probability; the first `decoding` turns feed one token each."""
        rows = [turn.row for turn in turns[:decoding]]
        joining = [(turn.row, len(turn.feed)) for turn in turns[decoding:]]
        ids = [token for turn in turns for token in turn.feed]
        logits = self.model.next_logits(self._cache, rows, joining, ids)
        asked = [i for i, turn in enumerate(turns) if turn.sampling.entropy and not turn.ids]
        for i, entropy in zip(asked, entropies(logits[asked], [turns[i].sampling for i in asked]), strict=True):
            turns[i].entropy = entropy
        draws = [turn.draws[len(turn.ids)] for turn in turns]
        sampled, log_probs = sample(logits, draws, [turn.sampling for turn in turns])
        return sampled.tolist(), log_probs.tolist()

    def _take(self, session: int, token: int, log_prob: float) -> None:
        turn = self._turns[session]
        turn.ids.append(token)
        turn.log_probs.append(log_prob)
        turn.feed = [token]
        try:
            stopped = token in turn.sampling.stop_ids or (turn.ends is not None and turn.ends(turn.ids))
        except Exception as error:  # the asker's own code
            del self._turns[session]
            refuse(turn.future, error)
            return
        if stopped or len(turn.ids) >= turn.sampling.max_tokens:
            del self._turns[session]
            finish = "stop" if stopped else "length"
            answer(turn.future, Generation(tuple(turn.ids), tuple(turn.log_probs), finish, turn.entropy))

    def _fail(self, error: Exception) -> None:
        """Fail every turn with the engine's error, and drop the cache."""
        futures = [asked.future for asked in self._waiting.values()] + [turn.future for turn in self._turns.values()]
        self._waiting.clear()
        self._turns.clear()
        self.reset()
        for future in futures:
            refuse(future, error)

    def _weights_version(self) -> int:
        """Grows with every in-place change of a weight."""
        return sum(parameter._version for parameter in self.model.parameters())
