"""Token ids to an SGLang server and back, over a real loopback connection, with all that can go wrong with one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from patience import PATIENCE
from servers import Answer, Served, serve

from tau2_exp.config import ConfigError, OutOfMemory, PolicyConfig
from tau2_exp.llm import retry
from tau2_exp.policies.sglang import SglangGenerator
from tau2_exp.types import ContextFull, FaultError, FaultSource, Generation, Sampling


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)


def answer(finish: Any = "stop", tokens: Any = ((-0.5, 11, None), (-0.25, 7, None))) -> Answer:
    return Answer({"text": "…", "meta_info": {"finish_reason": {"type": finish}, "output_token_logprobs": tokens}})


def generate(
    server: Served, sampling: Sampling | None = None, timeout: float = PATIENCE, retries: int = 2
) -> Generation:
    async def once() -> Generation:
        generator = SglangGenerator(PolicyConfig(url=server.url, timeout=timeout, retries=retries), "its-token")
        generator.open(0)
        try:
            return await generator.generate(0, [1, 2, 3], sampling or Sampling(), seed=0)
        finally:
            generator.close(0)
            await generator.aclose()

    return asyncio.run(once())


def fault(server: Served, **settings: Any) -> str:
    with pytest.raises(FaultError) as caught:
        generate(server, **settings)
    assert caught.value.fault.source is FaultSource.ENGINE
    return caught.value.fault.message


def test_tokens_go_in_and_come_out_with_their_log_probabilities() -> None:
    with serve(answer()) as server:
        generation = generate(server, Sampling(temperature=0.8, top_p=0.9, top_k=20, max_tokens=64, stop_ids=(7,)))
    assert generation == Generation(ids=(11, 7), log_probs=(-0.5, -0.25), finish="stop")
    (asked,), (headers,) = server.asked, server.headers
    assert headers["authorization"] == "Bearer its-token"
    assert asked["input_ids"] == [1, 2, 3]
    assert asked["return_logprob"] is True
    expected = {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "max_new_tokens": 64, "stop_token_ids": [7]}
    assert asked["sampling_params"].items() >= expected.items()
    assert asked["sampling_params"]["no_stop_trim"] is True
    assert asked["sampling_params"]["skip_special_tokens"] is False


def test_no_top_k_is_minus_one_and_a_full_turn_is_a_length_stop() -> None:
    with serve(answer("length")) as server:
        assert generate(server).finish == "length"
    assert server.asked[0]["sampling_params"]["top_k"] == -1


@pytest.mark.parametrize("trouble", [Answer("busy", 503), Answer("slow down", 429), Answer(status=0)])
def test_passing_trouble_is_tried_again(trouble: Answer) -> None:
    with serve(trouble, trouble, answer()) as server:
        assert generate(server).ids == (11, 7)
    assert len(server.asked) == 3


def test_a_server_that_is_gone_is_a_fault_of_the_engine() -> None:
    with serve(answer()) as server:
        pass
    assert "is the server of policy.url up?" in fault(server)


def test_a_server_that_dies_in_an_episode_is_a_fault_after_the_retries() -> None:
    with serve(Answer(status=0)) as server:
        assert server.url in fault(server)
    assert len(server.asked) == 3


def test_a_stall_is_a_fault_that_names_the_timeout() -> None:
    with serve(Answer(stall=PATIENCE)) as server:
        assert "no answer within 0.1 s (policy.timeout)" in fault(server, timeout=0.1)
        assert len(server.asked) <= 1, "a stall costs the whole timeout: it is not tried again"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Answer("<html>"), "not an answer of /generate"),
        (Answer({"text": "no log-probabilities", "meta_info": {}}), "not an answer of /generate"),
        (answer(tokens=[[None, 5, None]]), "not an answer of /generate"),
        (answer(tokens=[]), "no token was generated"),
        (answer("abort"), "the request ended by 'abort'"),
        (Answer("bad parameter", 400), "HTTP 400: bad parameter"),
        (Answer("who are you", 401), "HTTP 401: who are you; policy.api_key_env names"),
    ],
)
def test_an_answer_that_is_none_is_a_fault_at_once(bad: Answer, reason: str) -> None:
    with serve(bad) as server:
        assert reason in fault(server)
    assert len(server.asked) == 1


def test_a_context_that_is_too_long_ends_the_episode_and_not_the_run() -> None:
    message = {"error": {"message": "The input (9 tokens) is longer than the model's context length (8 tokens)."}}
    with serve(Answer(message, 400)) as server, pytest.raises(ContextFull):
        generate(server)


def test_a_server_without_memory_is_not_asked_again() -> None:
    message = {"error": {"message": "out of memory while sampling: lower rollout.concurrency"}}
    with serve(Answer(message, 507)) as server, pytest.raises(OutOfMemory, match=r"lower rollout\.concurrency"):
        generate(server)
    assert len(server.asked) == 1


def test_one_generator_serves_one_event_loop_after_another() -> None:
    with serve(answer()) as server:
        generator = SglangGenerator(PolicyConfig(url=server.url))
        for _ in range(2):
            assert asyncio.run(generator.generate(0, [1], Sampling(), 0)).ids == (11, 7)


def test_an_address_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"policy\.url is not set"):
        SglangGenerator(PolicyConfig())
