"""Sampling turn after turn from a kept cache says what recomputing everything would have said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from patience import PATIENCE

from tau2_exp.config import EngineConfig, OutOfMemory, SftConfig
from tau2_exp.engines.torch import attention, cache, decoding
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.sampling import uniforms
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import FaultError, FaultSource, Generation, Sampling
from tests.engines.conftest import BF16, SHAPE, Place, row, tokens

STOP = tuple(range(0, 97, 6))
NOTHING = ((),)
SHARED = (tokens(90), (*tokens(70), 5, *tokens(60, 2)), tokens(75, 3))  # two begin alike, beyond which one is longer


def naive(model: CausalLM, ids: list[int], sampling: Sampling, seed: int) -> Generation:
    """One row alone, everything computed again for each token, in float64 from the logits on."""
    draws, context, log_probs = uniforms(seed, sampling.max_tokens), list(ids), []
    for u in draws:
        with torch.no_grad():
            logits = model.logits(model.packed(torch.tensor(context, device=model.device), [len(context)]))[-1].double()
        log_p = (logits / (sampling.temperature or 1.0)).log_softmax(-1)
        if sampling.temperature == 0:
            token = int(log_p.argmax())
        else:
            token = int(torch.searchsorted(log_p.exp().cumsum(-1), u, right=True))
        context.append(token)
        log_probs.append(float(log_p[token]))
        if token in sampling.stop_ids:
            return Generation(tuple(context[len(ids) :]), tuple(log_probs), "stop")
    return Generation(tuple(context[len(ids) :]), tuple(log_probs), "length")


def check(place: Place, model: CausalLM, ids: list[int], sampling: Sampling, seed: int, answer: Generation) -> None:
    """The answer is the naive one. In bfloat16, where rounding decides near ties, it is one that could have been."""
    if place.dtype is torch.float32:
        expected = naive(model, ids, sampling, seed)
        assert (answer.ids, answer.finish) == (expected.ids, expected.finish)
        assert answer.log_probs == pytest.approx(expected.log_probs, abs=place.tolerance(1e-4))
        return
    whole = [*ids, *answer.ids]
    with torch.no_grad():
        logits = model.logits(model.packed(place.tensor(whole), [len(whole)]))[len(ids) - 1 : -1].double()
    log_p = (logits / (sampling.temperature or 1.0)).log_softmax(-1).cpu()
    assert answer.log_probs == pytest.approx([float(log_p[i, t]) for i, t in enumerate(answer.ids)], abs=BF16)
    for line, token, u in zip(log_p, answer.ids, uniforms(seed, sampling.max_tokens), strict=False):
        if sampling.temperature == 0:
            assert line[token] >= line.max() - BF16
        else:
            assert line[:token].exp().sum() - BF16 <= u <= line[: token + 1].exp().sum() + BF16
    stops = [token in sampling.stop_ids for token in answer.ids]
    assert not any(stops[:-1]) and stops[-1] is (answer.finish == "stop")
    assert stops[-1] or len(stops) == sampling.max_tokens


class Dialogue:
    """A session that hears random tokens between its turns, after `prompt`; keeps all that was said."""

    def __init__(self, generator: TorchGenerator, number: int, sampling: Sampling, turns: int, prompt: Sequence[int]):
        self.generator, self.number, self.sampling, self.turns, self.prompt = generator, number, sampling, turns, prompt
        self.asked: list[tuple[list[int], int]] = []
        self.answers: list[Generation] = []

    async def play(self, dawdle: int = 0) -> None:
        ids = list(self.prompt)
        for turn in range(self.turns):
            for _ in range(dawdle):
                await asyncio.sleep(0)
            seed = self.number * 100 + turn
            ids += tokens(3 + seed % 11, seed)
            self.asked.append((list(ids), seed))
            answer = await self.generator.generate(self.number, ids, self.sampling, seed)
            self.answers.append(answer)
            ids += answer.ids
        self.generator.close(self.number)


def play(
    generator: TorchGenerator,
    sampling: Sampling,
    count: int = 6,
    shuffled: int | None = None,
    prompts: Sequence[Sequence[int]] = ((),),
) -> list[Dialogue]:
    """Dialogues at once, each with the next of the prompts."""
    dialogues = [
        Dialogue(generator, number, sampling, 2 + number % 3, prompts[number % len(prompts)]) for number in range(count)
    ]
    order = list(dialogues)
    draw = random.Random(shuffled)
    if shuffled is not None:
        draw.shuffle(order)

    async def main() -> None:
        for dialogue in order:
            generator.open(dialogue.number)
        dawdles = [draw.randrange(5) if shuffled is not None else 0 for _ in order]
        await asyncio.gather(*(d.play(n) for d, n in zip(order, dawdles, strict=True)))

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    return dialogues


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize(("temperature", "prompts"), [(0.0, NOTHING), (0.7, NOTHING), (1.0, NOTHING), (0.7, SHARED)])
def test_cached_turns_equal_recomputed_ones(model, place, temperature, lockstep, prompts):
    sampling = Sampling(temperature=temperature, max_tokens=12, stop_ids=STOP)
    generator = TorchGenerator(model, EngineConfig(lockstep=lockstep, batch_tokens=20))
    finishes = set()
    for dialogue in play(generator, sampling, prompts=prompts):
        for (ids, seed), answer in zip(dialogue.asked, dialogue.answers, strict=True):
            check(place, model, ids, sampling, seed, answer)
            finishes.add(answer.finish)
    assert finishes == {"stop", "length"} or (prompts is SHARED and "stop" in finishes)


def test_sessions_that_join_while_others_decode_share_a_prefix_with_them(model, place):
    """Two decode, and in one later pass a third of their prompt joins beside one that shares only its beginning."""
    begin = [1] * 100
    prompts = [begin + [2] * 150] * 3 + [begin + [3] * 150]

    async def main() -> list[Generation]:
        generator = TorchGenerator(model, EngineConfig(lockstep=False))
        for number in range(4):
            generator.open(number)
        two = [asyncio.create_task(generator.generate(n, prompts[n], Sampling(max_tokens=60), n)) for n in (0, 1)]
        await asyncio.sleep(0.05)
        late = [generator.generate(n, prompts[n], Sampling(max_tokens=5), n) for n in (2, 3)]
        return await asyncio.gather(*two, *late)

    for number, answer in enumerate(asyncio.run(asyncio.wait_for(main(), PATIENCE))):
        check(place, model, prompts[number], Sampling(max_tokens=len(answer.ids)), number, answer)


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_rows_of_many_lengths_keep_their_places(model, place, monkeypatch, on_a_gpu):
    """Small buckets and frequent ordering move rows about, and a GPU joins attention its own way; nobody notices."""
    lengths: set[int] = set()
    if on_a_gpu:
        monkeypatch.setattr(attention, "attend_part", attention.by_products)
        monkeypatch.setattr(decoding, "attend_part", attention.by_products)
        monkeypatch.setattr(cache, "CPU_STEP", 8)
    monkeypatch.setattr(decoding, "_Bucket", noting(decoding._Bucket, lengths))
    monkeypatch.setattr(cache, "CPU_BUCKET", 3)
    monkeypatch.setattr(cache, "SORT_EVERY", 2)
    monkeypatch.setattr(cache, "LENGTH_STEP", 8)
    sampling = Sampling(max_tokens=15, stop_ids=STOP)
    generator = TorchGenerator(model, EngineConfig(lockstep=False))
    for dialogue in play(generator, sampling, count=14, shuffled=3, prompts=(*NOTHING, *SHARED)):
        for (ids, seed), answer in zip(dialogue.asked, dialogue.answers, strict=True):
            check(place, model, ids, sampling, seed, answer)
    assert {length % 8 for length in lengths} == ({0} if on_a_gpu else set(range(8))), "shapes repeat on a GPU"


def noting(made: Callable[..., Any], lengths: set[int]) -> Callable[..., Any]:
    """Make a bucket, and note up to where it attends."""

    def make(low: int, high: int, length: int, *rest: Any) -> Any:
        lengths.add(length)
        return made(low, high, length, *rest)

    return make


def test_lockstep_gives_one_result_bit_for_bit_whoever_arrives_first(model):
    sampling = Sampling(max_tokens=12, stop_ids=STOP)
    first, *others = (
        [d.answers for d in play(TorchGenerator(model, EngineConfig()), sampling, 8, order, (*NOTHING, *SHARED))]
        for order in (None, 1, 2)
    )
    assert others == [first, first]


def test_a_batch_gives_the_same_bits_whatever_was_played_before_it(model):
    """Forty rows are several buckets, whose order would go on from batch to batch if the cache did."""
    sampling = Sampling(max_tokens=12, stop_ids=STOP[:3])
    used = TorchGenerator(model, EngineConfig())
    play(used, sampling, count=37)
    second = [d.answers for d in play(used, sampling, count=40)]
    assert second == [d.answers for d in play(TorchGenerator(model, EngineConfig()), sampling, count=40)]


def computed(generator: TorchGenerator, prompts: Sequence[Sequence[int]], heard: int = 5, turns: int = 2) -> int:
    """How many tokens the model computes for sessions that begin with these prompts and say three tokens a turn."""

    async def one(number: int) -> None:
        ids = list(prompts[number])
        for turn in range(turns):
            ids += tokens(heard, number)
            ids += (await generator.generate(number, ids, Sampling(max_tokens=3), turn)).ids
        generator.close(number)

    async def main() -> None:
        for number in range(len(prompts)):
            generator.open(number)
        await asyncio.gather(*map(one, range(len(prompts))))

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    return generator.computed


@pytest.mark.parametrize("lockstep", [True, False])
def test_what_sessions_begin_with_is_computed_once(model, lockstep):
    engine = EngineConfig(lockstep=lockstep, batch_tokens=150)
    alone = computed(TorchGenerator(model, engine), [()] * 12)
    for prompts in ([tokens(100)] * 12, [tokens(100), tokens(80, 3)] * 6):
        once = sum(map(len, {tuple(prompt) for prompt in prompts}))
        extra = computed(TorchGenerator(model, engine), prompts) - alone
        assert once <= extra <= once + 2, "a context may begin as the other prompt goes on"


@pytest.mark.parametrize("lockstep", [True, False])
def test_sessions_wait_for_room_in_the_cache(model, place, monkeypatch, lockstep):
    """Three of the eight fit at a time: what they share once, and each grown to `longest`."""
    seen: list[tuple[int, int]] = []
    step = cache.Cache.step

    def watched(self: cache.Cache, *given):
        attend = step(self, *given)
        seen.append((len(self.rows), self.bytes))
        return attend

    monkeypatch.setattr(cache.Cache, "step", watched)
    monkeypatch.setattr(cache, "LENGTH_STEP", 1)
    size = 2 * SHAPE.layers * SHAPE.kv_heads * SHAPE.head_dim * model.head.element_size()
    room = (100 + 3 * 100) * size
    generator = TorchGenerator(model, EngineConfig(lockstep=lockstep, cache_gib=room / 2**30), longest=200)
    sampling = Sampling(max_tokens=8)
    for dialogue in play(generator, sampling, 8, prompts=[tokens(100)]):
        for (ids, seed), answer in zip(dialogue.asked, dialogue.answers, strict=True):
            check(place, model, ids, sampling, seed, answer)
    assert max(rows for rows, _ in seen) == 3
    assert max(held for _, held in seen) <= room


def test_sessions_that_stay_open_give_their_rows_to_those_that_wait(model):
    generator = TorchGenerator(model, EngineConfig(lockstep=False, cache_gib=1e-9))

    async def main() -> list[Generation]:
        for number in range(5):
            generator.open(number)
        asked = (generator.generate(n, tokens(5, n), Sampling(max_tokens=3), n) for n in range(5))
        return await asyncio.gather(*asked)

    assert [len(a.ids) for a in asyncio.run(asyncio.wait_for(main(), PATIENCE))] == [3] * 5


def test_the_cache_is_freed_when_the_last_session_closes(model):
    generator = TorchGenerator(model, EngineConfig())
    play(generator, Sampling(max_tokens=4))
    assert not generator._cache.bytes


def test_lockstep_waits_for_the_unpaused(model):
    generator = TorchGenerator(model, EngineConfig())

    async def main() -> None:
        generator.open(0)
        generator.open(1)
        first = asyncio.create_task(generator.generate(0, [1, 2, 3], Sampling(max_tokens=2), 0))
        await asyncio.sleep(0.05)
        assert not first.done()
        generator.close(1)
        await first

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_changed_context_is_read_again(model, place):
    generator = TorchGenerator(model, EngineConfig())
    sampling = Sampling(temperature=0, max_tokens=5)

    async def main() -> list[Generation]:
        generator.open(0)
        return [await generator.generate(0, ids, sampling, 0) for ids in (tokens(20), [*tokens(8), 5, 5], [9])]

    for ids, answer in zip((tokens(20), [*tokens(8), 5, 5], [9]), asyncio.run(main()), strict=True):
        check(place, model, ids, sampling, 0, answer)


def test_new_weights_are_noticed(model, place):
    generator = TorchGenerator(model, EngineConfig())
    sampling = Sampling(temperature=0, max_tokens=5)
    ids = tokens(20)

    async def ask() -> Generation:
        return await generator.generate(0, ids, sampling, 0)

    generator.open(0)
    before = asyncio.run(ask())
    Trainer(model, SftConfig(lr=0.1, warmup=0.0), 1, EngineConfig()).sft_step([row(30, 0)])
    after = asyncio.run(ask())
    check(place, model, ids, sampling, 0, after)
    assert after.ids != before.ids


def test_top_k_and_top_p_keep_to_their_tokens_but_report_the_whole_distribution(model, place):
    ids = tokens(10)
    with torch.no_grad():
        log_p = model.logits(model.packed(place.tensor(ids), [10]))[-1].float().log_softmax(-1).cpu()
    ranked = log_p.argsort(descending=True).tolist()
    mass = log_p.exp()[ranked].cumsum(-1)
    nucleus = ranked[: int((mass < 0.6).sum()) + 1]

    def as_likely(chosen: list[int]) -> set[int]:
        """The chosen, and in bfloat16 what ties with the last of them."""
        least = log_p[chosen[-1]] - (BF16 if place.dtype is torch.bfloat16 else 0.0)
        return {*chosen, *(log_p > least).nonzero()[:, 0].tolist()}

    async def draw(sampling: Sampling) -> list[Generation]:
        generator = TorchGenerator(model, EngineConfig())
        for number in range(200):
            generator.open(number)
        return await asyncio.gather(*(generator.generate(n, ids, sampling, n) for n in range(200)))

    for sampling, allowed in (
        (Sampling(top_k=3, max_tokens=1), as_likely(ranked[:3])),
        (Sampling(top_p=0.6, max_tokens=1), as_likely(nucleus)),
        (Sampling(top_k=1, top_p=0.1, max_tokens=1), as_likely(ranked[:1])),
    ):
        answers = asyncio.run(draw(sampling))
        assert {answer.ids[0] for answer in answers} <= allowed
        for answer in answers:
            assert answer.log_probs[0] == pytest.approx(float(log_p[answer.ids[0]]), abs=place.tolerance(1e-4))


def test_draws_follow_the_distribution(model, place):
    ids = tokens(10)
    with torch.no_grad():
        p = model.logits(model.packed(place.tensor(ids), [10]))[-1].float().div(1.5).softmax(-1).cpu()

    async def draw() -> list[Generation]:
        generator = TorchGenerator(model, EngineConfig(lockstep=False), longest=20)
        sampling = Sampling(temperature=1.5, max_tokens=1)
        for number in range(3000):
            generator.open(number)
        return await asyncio.gather(*(generator.generate(n, ids, sampling, n) for n in range(3000)))

    seen = torch.bincount(torch.tensor([a.ids[0] for a in asyncio.run(draw())]), minlength=len(p)) / 3000
    assert (seen - p).abs().sum() < 0.15  # total variation below 7.5 %; chance alone gives about 5 %


def test_a_broken_engine_faults_every_asker_and_works_again(model, monkeypatch):
    generator = TorchGenerator(model, EngineConfig())

    async def ask(number: int) -> Generation:
        return await generator.generate(number, tokens(5), Sampling(max_tokens=3), number)

    async def both() -> list:
        return await asyncio.gather(ask(0), ask(1), return_exceptions=True)

    generator.open(0)
    generator.open(1)
    with monkeypatch.context() as patch:
        patch.setattr(CausalLM, "logits", lambda *_: 1 / 0)
        for error in asyncio.run(both()):
            assert isinstance(error, FaultError)
            assert error.fault.source is FaultSource.ENGINE and "ZeroDivisionError" in error.fault.message
    assert all(len(answer.ids) == 3 for answer in asyncio.run(both()))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
    ],
)
def test_a_lack_of_memory_is_no_fault_and_names_the_mend(model, monkeypatch, error):
    generator = TorchGenerator(model, EngineConfig())

    def fail(*_) -> None:
        raise error

    async def ask() -> Generation:
        return await generator.generate(0, tokens(5), Sampling(max_tokens=3), 0)

    generator.open(0)
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory) as caught:
        patch.setattr(CausalLM, "logits", fail)
        asyncio.run(ask())
    line = str(caught.value)
    assert line.startswith("out of memory while sampling (") and "\n" not in line and "engine.cache_gib" in line
    assert len(asyncio.run(ask()).ids) == 3


def test_wrong_calls_are_named(model):
    generator = TorchGenerator(model, EngineConfig())
    generator.open(0)
    with pytest.raises(ValueError, match="already open"):
        generator.open(0)
    with pytest.raises(ValueError, match="not open"):
        asyncio.run(generator.generate(5, [1], Sampling(), 0))
    with pytest.raises(ValueError, match="at least one token"):
        asyncio.run(generator.generate(0, [], Sampling(), 0))


def test_a_cancelled_asker_leaves_the_others_alone(model, place):
    generator = TorchGenerator(model, EngineConfig())

    async def main() -> Generation:
        generator.open(0)
        generator.open(1)
        doomed = asyncio.create_task(generator.generate(0, tokens(5), Sampling(max_tokens=500), 0))
        other = asyncio.create_task(generator.generate(1, tokens(6), Sampling(max_tokens=20), 1))
        await asyncio.sleep(0.01)
        doomed.cancel()
        generator.close(0)
        return await other

    answer = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    check(place, model, tokens(6), Sampling(max_tokens=20), 1, answer)
