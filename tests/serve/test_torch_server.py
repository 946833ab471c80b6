"""Our own server of SGLang's /generate, asked over real connections: what it says is what the model says."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE

from tau2_exp.config import OutOfMemory, PolicyConfig
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.prefix import common_length
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.tokenizer import TextTokenizer
from tau2_exp.engines.torch.wire import Refused, Request, read_request
from tau2_exp.policies.sglang import SglangGenerator
from tau2_exp.types import ContextFull, FaultError, Generation, Sampling
from tests.engines.conftest import tokens
from tests.engines.test_generation import naive
from tests.serve.conftest import CONTEXT, KNOWN, TOKEN, make_model, served

GREEDY = Sampling(temperature=0.0, max_tokens=12)
LONG = 120  # tokens of a turn that others come and go beside
PASSES: list[int] = []  # of a model that is slowed down: the rows of each
ARRIVED: set[str] = set()  # the requests that came to its server


@pytest.fixture
def model(tokenizer: TextTokenizer) -> CausalLM:
    return make_model(tokenizer.size)


@pytest.fixture
def url(model: CausalLM, tokenizer: TextTokenizer) -> Iterator[str]:
    with served(model, tokenizer) as address:
        yield address


def post(url: str, path: str = "generate", **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/{path}", json=body, headers=KNOWN, timeout=PATIENCE, trust_env=False)


def generate(url: str, ids: Sequence[int], **params: Any) -> dict[str, Any]:
    body = {"input_ids": list(ids), "sampling_params": {"temperature": 0, **params}, "return_logprob": True}
    return post(url, **body).raise_for_status().json()


def ask(url: str, *contexts: Sequence[int], sampling: Sampling = GREEDY) -> list[Generation]:
    """All contexts at once, through the client that evaluations use."""

    async def main() -> list[Generation]:
        generator = SglangGenerator(PolicyConfig(url=url, timeout=PATIENCE, retries=0), TOKEN)
        try:
            return await asyncio.gather(*(generator.generate(0, ids, sampling, 0) for ids in contexts))
        finally:
            await generator.aclose()

    return asyncio.run(main())


def same(answer: Generation, expected: Generation) -> bool:
    close = all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(answer.log_probs, expected.log_probs, strict=True))
    return (answer.ids, answer.finish) == (expected.ids, expected.finish) and close


# ---------------------------------------------------------------- what it says


def test_many_at_once_are_answered_as_each_alone(model: CausalLM, tokenizer: TextTokenizer) -> None:
    contexts = [tokens(5 + 3 * n, n, tokenizer.size) for n in range(20)]
    stops = Sampling(temperature=0.0, max_tokens=12, stop_ids=tuple(range(0, tokenizer.size, 9)))
    with served(model, tokenizer, rows=6) as url:
        answers = ask(url, *contexts, sampling=stops)
    assert all(same(a, naive(model, ids, stops, 0)) for a, ids in zip(answers, contexts, strict=True))
    assert {answer.finish for answer in answers} == {"stop", "length"}


def test_episodes_find_their_context_again_and_share_their_prompt(model: CausalLM, tokenizer: TextTokenizer) -> None:
    """More episodes than rows, turn by turn: some find their row, some have lost it; nobody gets another's."""
    prompt = tokens(60, 99, tokenizer.size)
    episodes = [list(prompt) for _ in range(6)]
    cached = []
    with served(model, tokenizer, rows=4) as url:
        for turn, (number, ids) in itertools.product(range(3), enumerate(episodes)):
            ids += tokens(4 + number, 10 * turn + number, tokenizer.size)
            answer = generate(url, ids, max_new_tokens=6)
            assert answer["output_ids"] == list(naive(model, ids, Sampling(0.0, max_tokens=6), 0).ids)
            ids += answer["output_ids"]
            cached.append(answer["meta_info"]["cached_tokens"])
    assert cached[0] == 0 and min(cached[1:]) >= len(prompt)


def test_an_episode_computes_only_what_is_new(model: CausalLM, tokenizer: TextTokenizer, url: str) -> None:
    ids = tokens(50, 1, tokenizer.size)
    ids += generate(url, ids, max_new_tokens=10)["output_ids"]
    answer = generate(url, [*ids, 5, 6, 7], max_new_tokens=1)
    assert answer["meta_info"]["prompt_tokens"] - answer["meta_info"]["cached_tokens"] == 4  # and the last one sampled


def test_a_seed_draws_what_it_draws_in_process(model: CausalLM, url: str) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.9, top_k=40, max_tokens=20)
    params = {"temperature": 0.9, "top_p": 0.9, "top_k": 40, "max_new_tokens": 20, "sampling_seed": 2**62 + 1}
    first, again = (generate(url, [3, 4, 5], **params) for _ in range(2))
    assert first["output_ids"] == again["output_ids"]
    plain = Sampling(temperature=0.9, max_tokens=20)
    unlimited = generate(url, [3, 4, 5], temperature=0.9, max_new_tokens=20, sampling_seed=7)
    assert unlimited["output_ids"] == list(naive(model, [3, 4, 5], plain, 7).ids)
    free = {tuple(generate(url, [3], temperature=1.5, max_new_tokens=20)["output_ids"]) for _ in range(3)}
    assert len(free) == 3, "without a seed, each request draws anew"
    assert len(ask(url, [3, 4, 5], sampling=sampling)[0].ids) == 20


def test_a_turn_ends_at_a_token_a_text_or_its_length(model: CausalLM, tokenizer: TextTokenizer, url: str) -> None:
    said = generate(url, [9, 8, 7], max_new_tokens=30, skip_special_tokens=False)
    ids, text = said["output_ids"], said["text"]
    assert said["meta_info"]["finish_reason"] == {"type": "length", "length": 30}
    third = ids[2]
    at_token = generate(url, [9, 8, 7], max_new_tokens=30, stop_token_ids=[third], no_stop_trim=True)
    end = ids.index(third) + 1
    assert at_token["output_ids"] == ids[:end], "the token that ends a turn is kept in it"
    assert [token for _, token, _ in at_token["meta_info"]["output_token_logprobs"]] == ids[:end]
    assert at_token["meta_info"]["finish_reason"] == {"type": "stop", "matched": third}
    word = next(tokenizer.decode([token]) for token in ids[4:] if tokenizer.decode([token]).isascii())
    for trim, expected in ((False, text[: text.index(word) + len(word)]), (True, text[: text.index(word)])):
        at_text = generate(
            url, [9, 8, 7], max_new_tokens=30, stop=[word], no_stop_trim=not trim, skip_special_tokens=False
        )
        assert at_text["meta_info"]["finish_reason"] == {"type": "stop", "matched": word}
        assert at_text["text"] == expected
        assert ids[: len(at_text["output_ids"])] == at_text["output_ids"]


def test_the_checkpoints_own_end_ends_a_turn_unless_it_is_to_be_ignored(
    model: CausalLM, tokenizer: TextTokenizer
) -> None:
    expected = naive(model, [1, 2, 3], GREEDY, 0).ids
    with served(model, tokenizer, eos=(expected[1],)) as url:
        end = expected.index(expected[1]) + 1
        assert generate(url, [1, 2, 3], max_new_tokens=12)["output_ids"] == list(expected[:end])
        assert generate(url, [1, 2, 3], max_new_tokens=12, ignore_eos=True)["output_ids"] == list(expected)


def test_special_tokens_are_left_out_of_the_text_unless_asked_for(
    model: CausalLM, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    special, word = tokenizer.token_id("<|im_end|>"), tokenizer.encode("good")[0]
    script = itertools.cycle([word, special])
    monkeypatch.setattr(
        "tau2_exp.engines.torch.generation.sample",
        lambda logits, draws, samplings: (torch.tensor([next(script)]), torch.zeros(1)),
    )
    with served(model, tokenizer) as url:
        plain = tokenizer.decode([word])
        assert generate(url, [1], max_new_tokens=2)["text"] == plain
        assert generate(url, [1], max_new_tokens=2, skip_special_tokens=False)["text"] == plain + "<|im_end|>"


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"text": "hello"}, "text='hello' is not supported"),
        ({}, "input_ids is missing"),
        ({"input_ids": [[1, 2], [3]]}, "input_ids is not one list"),
        ({"input_ids": [1, 10**6]}, "input_ids: ids go from 0 to"),
        ({"input_ids": [1], "stream": True}, "stream=True is not supported"),
        ({"input_ids": [1], "logprob_start_len": 0}, "logprob_start_len=0 is not supported"),
        ({"input_ids": [1], "sampling_params": [{}]}, "sampling_params is not an object"),
        ({"input_ids": [1], "sampling_params": {"min_p": 0.1}}, "sampling_params.min_p=0.1 is not supported"),
        ({"input_ids": [1], "sampling_params": {"n": 2}}, "sampling_params.n=2 is not supported"),
        ({"input_ids": [1], "sampling_params": {"temperature": -1}}, "sampling_params.temperature=-1"),
        ({"input_ids": [1], "sampling_params": {"top_p": 1.5}}, "sampling_params.top_p=1.5"),
        ({"input_ids": [1], "sampling_params": {"top_k": 0}}, "top_k"),
        ({"input_ids": [1], "sampling_params": {"max_new_tokens": 1.5}}, "sampling_params.max_new_tokens=1.5"),
        ({"input_ids": [1], "sampling_params": {"stop": [3]}}, "sampling_params.stop"),
        ({"input_ids": [1], "sampling_params": {"no_stop_trim": 1}}, "sampling_params.no_stop_trim=1"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused) as caught:
        read_request(body, 300, CONTEXT, ())
    assert named in str(caught.value)


def test_settings_that_say_nothing_are_no_hindrance() -> None:
    neutral = {"n": 1, "min_p": 0.0, "repetition_penalty": 1.0, "regex": None, "stop": None, "top_k": -1}
    top = {"stream": False, "logprob_start_len": -1, "top_logprobs_num": 0, "image_data": None}
    request = read_request({"input_ids": [1], "sampling_params": neutral, **top}, 300, CONTEXT, ())
    assert request.sampling == Sampling(max_tokens=128)


def test_refusals_travel_as_sglang_sends_them(url: str) -> None:
    refused = post(url, input_ids=[1], sampling_params={"min_p": 0.1})
    assert (refused.status_code, list(refused.json())) == (400, ["error"])


@pytest.mark.parametrize("length", [CONTEXT - 11, CONTEXT, CONTEXT + 50])
def test_no_room_in_the_context_ends_the_episode_and_not_the_run(url: str, length: int) -> None:
    with pytest.raises(ContextFull):
        ask(url, [1] * length)
    assert len(ask(url, [1] * (CONTEXT - 12))[0].ids) == 12


def test_a_broken_engine_is_a_fault_and_works_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CausalLM, "logits", lambda *_: 1 / 0)
        with pytest.raises(FaultError, match=r"HTTP 500.*ZeroDivisionError"):
            ask(url, [1, 2])
    assert len(ask(url, [1, 2])[0].ids) == 12


def test_a_lack_of_memory_is_no_fault_for_its_client(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def starve(*_: Any) -> None:
        asked.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(CausalLM, "logits", starve)
        with pytest.raises(OutOfMemory, match=r"out of memory while sampling \(CUDA out of memory\): lower"):
            ask(url, [1, 2])
    assert len(asked) == 1 and len(ask(url, [1, 2])[0].ids) == 12


# ---------------------------------------------------------------- what else it does


def test_new_weights_answer_everything_after_them(checkpoints: Path, tokenizer: TextTokenizer) -> None:
    one, two = make_model(tokenizer.size, 1), make_model(tokenizer.size, 2)
    ids = tokens(40, 3, tokenizer.size)
    with served(make_model(tokenizer.size, 1), tokenizer) as url:
        longer = [*ids, *generate(url, ids, max_new_tokens=12)["output_ids"]]
        assert tuple(longer[40:]) == naive(one, ids, GREEDY, 0).ids
        torn = checkpoints / "torn"
        torn.mkdir(exist_ok=True)
        (torn / "config.json").write_text("{")
        wrongs = [*(str(checkpoints / name) for name in ("other", "nowhere", "one/config.json")), str(torn)]
        for wrong in (*wrongs, "Qwen/Qwen3-0.6B", "a" * 300):
            refused = post(url, "update_weights_from_disk", model_path=wrong)
            assert (refused.status_code, refused.json()["success"]) == (400, False), refused.text
        assert same(ask(url, longer)[0], naive(one, longer, GREEDY, 0)), "a refused update changes nothing"
        path = str(checkpoints / "two")
        taken = post(url, "update_weights_from_disk", model_path=path, weight_version="step 5")
        assert taken.json()["success"]
        answer = generate(url, longer, max_new_tokens=12)
        assert answer["output_ids"] == list(naive(two, longer, GREEDY, 0).ids), "nothing cached is stale"
        assert answer["meta_info"]["weight_version"] == "step 5"
        info = httpx.get(f"{url}/model_info", headers=KNOWN, trust_env=False).json()
        assert (info["model_path"], info["weight_version"]) == (path, "step 5")


def together(url: str, main: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, headers=KNOWN, timeout=PATIENCE, trust_env=False) as client:
            await asyncio.wait_for(main(client), PATIENCE)

    asyncio.run(run())


async def long_turn(client: httpx.AsyncClient, name: str = "long", waits: bool = False) -> asyncio.Task[httpx.Response]:
    """A turn of `LONG` tokens that has begun; or, where it `waits` for a row, has come to the server."""
    began = PASSES.copy()
    params = {"temperature": 0, "max_new_tokens": LONG}
    body = {"rid": name, "input_ids": [1, 2, 3], "sampling_params": params, "return_logprob": True}
    task = asyncio.create_task(client.post("/generate", json=body))
    while name not in ARRIVED or (began == PASSES and not waits):
        await asyncio.sleep(0.01)
    return task


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A server whose model takes its time; how many rows each of its passes had."""
    logits, generate = CausalLM.logits, Scheduler.generate
    PASSES.clear()
    ARRIVED.clear()

    async def arrive(self: Scheduler, request: Request) -> dict[str, Any]:
        answer = asyncio.ensure_future(generate(self, request))
        ARRIVED.add(request.name)
        return await answer

    def slow(self: CausalLM, hidden: torch.Tensor) -> torch.Tensor:
        if threading.current_thread().name == "model":
            time.sleep(0.01)
            PASSES.append(len(hidden))
        return logits(self, hidden)

    monkeypatch.setattr(CausalLM, "logits", slow)
    monkeypatch.setattr(Scheduler, "generate", arrive)
    yield PASSES


@pytest.mark.usefixtures("slowly")
def test_a_working_model_does_not_keep_others_waiting_and_is_healthy(url: str) -> None:
    async def main(client: httpx.AsyncClient) -> None:
        task = await long_turn(client)
        for path in ("/health", "/health_generate", "/get_model_info"):
            assert (await client.get(path)).status_code == 200
        params = {"temperature": 0, "max_new_tokens": 3}
        assert (await client.post("/generate", json={"input_ids": [5], "sampling_params": params})).is_success
        assert not task.done()
        again = await client.post("/generate", json={"rid": "long", "input_ids": [5]})
        assert (again.status_code, "under way" in again.text) == (400, True)
        assert len((await task).json()["output_ids"]) == LONG

    together(url, main)


@pytest.mark.usefixtures("slowly")
def test_what_is_aborted_is_answered_with_what_there_is(model: CausalLM, tokenizer: TextTokenizer) -> None:
    async def main(client: httpx.AsyncClient) -> None:
        sits, waits = await long_turn(client), await long_turn(client, "waits for the one row", waits=True)
        assert (await client.post("/abort_request", json={})).status_code == 400
        await client.post("/abort_request", json={"rid": "long"})
        made = (await sits).json()
        assert made["meta_info"]["finish_reason"]["type"] == "abort"
        sampled = Sampling(0.0, max_tokens=len(made["output_ids"]))
        assert 0 < sampled.max_tokens < LONG
        assert made["output_ids"] == list(naive(model, [1, 2, 3], sampled, 0).ids)
        assert not waits.done()
        more = await long_turn(client, "waits too", waits=True)
        await client.post("/abort_request", json={"abort_all": True})
        ends = [(await task).json() for task in (waits, more)]
        assert [end["meta_info"]["finish_reason"]["type"] for end in ends] == ["abort", "abort"]
        assert ends[1]["output_ids"] == []

    with served(model, tokenizer, rows=1) as url:
        together(url, main)


def test_a_client_that_hangs_up_frees_its_row(model: CausalLM, tokenizer: TextTokenizer, slowly: list[int]) -> None:
    async def main(client: httpx.AsyncClient) -> None:
        leaves = await long_turn(client)
        leaves.cancel()
        params = {"temperature": 0, "max_new_tokens": 3}
        short = await client.post("/generate", json={"input_ids": [5], "sampling_params": params})
        assert len(short.json()["output_ids"]) == 3

    with served(model, tokenizer, rows=1) as url:
        together(url, main)
    assert len(slowly) < LONG, "nobody waits for that turn, and it does not go on"


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("abort", [False, True])
def test_weights_change_between_turns(checkpoints: Path, tokenizer: TextTokenizer, abort: bool) -> None:
    async def main(client: httpx.AsyncClient) -> None:
        before = await long_turn(client)
        body = {"model_path": str(checkpoints / "two"), "abort_all_requests": abort}
        update = asyncio.create_task(client.post("/update_weights_from_disk", json=body))
        await asyncio.sleep(0.1)
        after = asyncio.create_task(client.post("/generate", json={"input_ids": [4], "sampling_params": params}))
        assert (await update).json()["success"]
        made = (await asyncio.wait_for(before, PATIENCE)).json()
        assert made["meta_info"]["finish_reason"]["type"] == ("abort" if abort else "length")
        sampled = Sampling(0.0, max_tokens=len(made["output_ids"]))
        assert made["output_ids"] == list(naive(make_model(tokenizer.size, 1), [1, 2, 3], sampled, 0).ids)
        expected = naive(make_model(tokenizer.size, 2), [4], Sampling(0.0, max_tokens=5), 0).ids
        assert (await after).json()["output_ids"] == list(expected)

    params = {"temperature": 0, "max_new_tokens": 5}
    with served(make_model(tokenizer.size, 1), tokenizer) as url:
        together(url, main)


@given(st.lists(st.integers(0, 2), max_size=9), st.lists(st.integers(0, 2), max_size=9))
def test_the_common_length_is_how_far_two_sequences_agree(a: list[int], b: list[int]) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_length(a, b) == expected
