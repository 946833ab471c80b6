"""Part 5: many sessions with a long context decode at once, beside transformers' `generate`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine import peer, random_model

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.report import Figures, Outcome, Report
from benchmarks.gpu_check.sessions import AROUND, engine_decoding, prompts, transformers_decoding
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.sizes import Sizes
from tau2_exp.config import EngineConfig

Work = Callable[[int], Figures]


def run(settings: Settings, report: Report) -> None:
    size = sizes.TINY if settings.tiny else sizes.FULL
    for name in size.shapes:
        wanted = size.sessions[name]
        held = _most(f"decoding, {name}", wanted, _ours(name, size, settings.device), report)
        _most(
            f"decoding after a shared prefix, {name}", wanted, _ours(name, size, settings.device, size.prefix), report
        )
        _most(f"decoding, {name}, transformers", held or wanted, _theirs(name, size, settings.device), report)


def _ours(name: str, size: Sizes, device: str, shared: int = 0) -> Work:
    shape = size.shapes[name]
    model = random_model(shape, device)
    engine = EngineConfig(lockstep=False, batch_tokens=size.batch_tokens)

    def work(sessions: int) -> Figures:
        contexts = prompts(sessions, _length(size), shape.vocab_size)
        contexts = [contexts[0][:shared] + context[shared:] for context in contexts]
        return engine_decoding(model, contexts, size.decoded, engine, device)

    return work


def _theirs(name: str, size: Sizes, device: str) -> Work:
    shape = size.shapes[name]
    model = peer(random_model(shape, device))

    def work(sessions: int) -> Figures:
        return transformers_decoding(model, prompts(sessions, _length(size), shape.vocab_size), size.decoded, device)

    return work


def _length(size: Sizes) -> int:
    """Tokens of a prompt, after which all that is said still fits into the context."""
    return size.context - size.decoded - AROUND


def _most(name: str, sessions: int, work: Work, report: Report) -> int:
    """Measure with that many sessions, or as often as the card has no room with half of them.

    Returns how many it were; 0 where the card has no room for one.
    """
    while sessions:
        if report.attempt(f"{name}, {sessions} sessions", partial(work, sessions)) is not Outcome.no_room:
            break
        sessions //= 2
    return sessions
