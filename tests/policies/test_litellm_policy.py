"""An API model as the agent, through litellm and a local server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE
from servers import Answer, Served, completion, refusal, serve

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError, PolicyConfig, RolloutConfig
from tau2_exp.domains import load_domain
from tau2_exp.interfaces import Agent
from tau2_exp.llm import retry
from tau2_exp.llm.budget import Budget
from tau2_exp.llm.completion import Account, Completions
from tau2_exp.policies.litellm import LitellmPolicy
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.rollouts.rollout import EpisodeSetting, play_without_fault
from tau2_exp.types import (
    Action,
    ContextFull,
    EpisodeSpec,
    FaultError,
    FaultSource,
    Message,
    Role,
    Sampling,
    StopReason,
    Trajectory,
)
from tau2_exp.users.scripted import ScriptedUser

pytest.importorskip("litellm", reason="the extra `litellm` is not installed")
DOMAIN = load_domain("telecom")
TASK = next(task for task in DOMAIN.tasks("full") if task.id.startswith("[service_issue]airplane_mode_on["))


@pytest.fixture(autouse=True)
def _no_pauses_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def make_agent(server: Served, timeout: float = PATIENCE, key: str | None = None, seed: bool = True) -> Agent:
    config = PolicyConfig(
        model="openai/local", api_base=server.url, timeout=timeout, retries=2, api_key_env=key, seed=seed
    )
    world = DOMAIN.world(TASK)
    return LitellmPolicy(config, Sampling(temperature=0.3, max_tokens=99)).make_agent(world, EpisodeSpec(TASK, 0, 0, 0))


def act(agent: Agent, *heard: Message) -> Action:
    said: Sequence[Message] = heard or [Message(Role.USER, "My phone shows no service.")]
    return asyncio.run(agent.act(said))


def play(server: Served) -> Trajectory:
    world, spec = DOMAIN.world(TASK), EpisodeSpec(TASK, 0, 0, 0)
    return asyncio.run(run_episode(make_agent(server), ScriptedUser(TASK, world), world, spec, Limits()))


def fault(server: Served, **settings: float | str) -> str:
    with pytest.raises(FaultError) as caught:
        act(make_agent(server, **settings))  # type: ignore[arg-type]
    assert caught.value.fault.source is FaultSource.ENGINE
    return caught.value.fault.message


def test_it_is_prompted_with_policy_greeting_and_tools() -> None:
    with serve(completion("What is your number?")) as server:
        action = act(make_agent(server))
    assert action.message == Message(Role.ASSISTANT, "What is your number?")
    assert (action.usage.prompt_tokens, action.usage.completion_tokens, action.done) == (11, 7, False)
    (asked,) = server.asked
    assert [m["role"] for m in asked["messages"]] == ["system", "assistant", "user"]
    assert DOMAIN.world(TASK).policy in asked["messages"][0]["content"]
    assert [t["function"]["name"] for t in asked["tools"]] == [
        s["function"]["name"] for s in DOMAIN.schemas(Role.ASSISTANT)
    ]
    assert (asked["temperature"], asked["max_tokens"]) == (0.3, 99)


def test_its_tool_calls_and_their_results_stay_in_the_conversation() -> None:
    calls = [("get_details_by_id", '{"id": "L1001"}'), ("get_details_by_id", '{"id": "L1002"}')]
    with serve(completion(None, *calls), completion("Thank you.")) as server:
        agent = make_agent(server)
        action = act(agent)
        assert action.message is not None
        assert [call.arguments for call in action.message.tool_calls] == [{"id": "L1001"}, {"id": "L1002"}]
        results = [Message(Role.TOOL, "{}", requestor=Role.ASSISTANT, call_id=c.id) for c in action.message.tool_calls]
        act(agent, *results)
    *_, said, first, second = server.asked[1]["messages"]
    assert [json.loads(call["function"]["arguments"])["id"] for call in said["tool_calls"]] == ["L1001", "L1002"]
    assert [first["tool_call_id"], second["tool_call_id"]] == ["call_0", "call_1"]


def test_it_ends_with_the_stop_word() -> None:
    with serve(completion("Goodbye. ###STOP###")) as server:
        assert act(make_agent(server)).done


DEEP = '{"a": ' + "[" * 500 + "]" * 500 + "}"
WRONG = {
    "an empty turn": completion(""),
    "an empty turn: write words or a tool call (the server ended it by 'content_filter')": completion(
        None, finish="content_filter"
    ),
    "invalid JSON": completion(None, ("get_bills", "{not json")),
    "must be a JSON object": completion(None, ("f", "3")),
    "needs `name`": completion(None, (None, "{}")),
    "nested too deeply": completion(None, ("f", DEEP)),
    "NaN is not a number": completion(None, ("f", '{"a": NaN}')),
    "not valid Unicode": completion("half a pair: \ud83d"),
    "the text is not valid Unicode": completion(None, ("f", '{"a": "\\ud83d"}')),
    "the thinking block is not closed": completion("<think>What now"),
    "cut at max_tokens (99)": completion("I will now", finish="length"),
    "cut at max_tokens": completion(None, ("f", '{"a": 1'), finish="length"),
    "could not be read by the server": refusal(400, "Failed to call a function.", "tool_use_failed"),
    "the tool call could not be read": refusal(500, "Failed to parse input at pos 12: <tool_call>{"),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_is_no_turn_is_an_unparsable_one_that_can_be_kept_and_corrected(why: str) -> None:
    with serve(WRONG[why], completion("Goodbye. ###STOP###")) as server:
        trajectory = play(server)
    first = trajectory.turns[0]
    assert why in (first.error or "") and first.truncated == ("cut" in why)
    assert decode(Trajectory, json.loads(json.dumps(encode(trajectory)))) == trajectory
    assert trajectory.stop is StopReason.AGENT_STOP and len(server.asked) == 2
    *_, written, correction = server.asked[1]["messages"]
    assert written["role"] == "assistant" and written["content"].encode()
    assert correction == {"role": "user", "content": f"Error: {first.error}"}


def test_what_replies_took_is_counted_however_useless_they_were() -> None:
    lost = completion("", reasoning_content="…", finish="length")
    with serve(lost) as server:
        usage = play(server).policy_usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.dollars) == (33, 21, None)
    with serve(completion("", usage=None)) as server:
        silent = play(server).policy_usage
    assert silent.prompt_tokens > 3 * 5000 and silent.dollars is None, "counted here, where the server does not tell"
    with serve(completion(""), refusal(400, "no")) as server:
        setting = EpisodeSetting(DOMAIN.world, lambda spec, world: ScriptedUser(TASK, world), Limits(), RolloutConfig())
        policy = LitellmPolicy(PolicyConfig(model="openai/local", api_base=server.url, retries=0), Sampling())
        faulted = asyncio.run(play_without_fault(setting, policy, EpisodeSpec(TASK, 0, 0, 0)))
    assert (faulted.attempts, faulted.policy_usage.prompt_tokens, faulted.policy_usage.dollars) == (3, 11, None)


@pytest.mark.parametrize("thoughts", ["###STOP###</think>Hello.", "<think>a</think><think>###STOP###</think>Hello."])
def test_thoughts_are_not_said_and_end_nothing(thoughts: str) -> None:
    with serve(completion(thoughts)) as server:
        action = act(make_agent(server))
    assert action.message == Message(Role.ASSISTANT, "Hello.") and not action.done
    assert "###STOP###" in action.text, "the record keeps them"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_thinking_model_gets_its_thoughts_back(name: str) -> None:
    thinking = completion("", ("get_details_by_id", '{"id": "L1001"}'), **{name: "Look the line up."})
    with serve(thinking, completion("Goodbye. ###STOP###")) as server:
        trajectory = play(server)
    said = next(message for message in server.asked[1]["messages"] if message.get("tool_calls"))
    assert (said["content"], said["reasoning_content"]) == ("", "Look the line up.")
    assert trajectory.turns[0].text.startswith("<think>\nLook the line up.\n</think>\n")


def test_calls_with_one_id_and_a_made_up_name_are_sent_back_in_a_valid_form() -> None:
    calls = [("find me!", "{}", "a"), ("get_details_by_id", '{"id": "L1001"}', "a"), ("f", "{}", "")]
    with serve(completion(None, *calls), completion("Goodbye. ###STOP###")) as server:
        trajectory = play(server)
    *_, said, first, second, third = server.asked[1]["messages"]
    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == 3 and [m["tool_call_id"] for m in (first, second, third)] == ids
    assert [call["function"]["name"] for call in said["tool_calls"]] == ["find_me_", "get_details_by_id", "f"]
    assert "L1001" in second["content"] and "Error" in first["content"]
    assert trajectory.turns[0].messages[0].tool_calls[0].name == "find me!"


def test_the_seed_is_left_out_where_a_server_takes_none() -> None:
    with serve(completion("Hello.")) as server:
        act(make_agent(server))
        act(make_agent(server, seed=False))
    assert ["seed" in asked for asked in server.asked] == [True, False]


def test_a_server_that_asks_for_a_pause_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    monkeypatch.setattr(retry.random, "uniform", lambda *_: pauses.append(1) or 0.0)
    started = time.monotonic()
    with serve(refusal(429, "slow down", Retry_After="1.5"), completion("Hello.")) as server:
        assert act(make_agent(server)).text == "Hello."
    assert time.monotonic() - started >= 1.5 and len(pauses) == 1


@pytest.mark.parametrize("trouble", [refusal(429), refusal(503), Answer(status=0)])
def test_passing_trouble_is_tried_again(trouble: Answer) -> None:
    with serve(trouble, trouble, completion("Hello.")) as server:
        assert act(make_agent(server)).text == "Hello."
    assert len(server.asked) == 3


def test_trouble_that_stays_is_a_fault_of_the_engine() -> None:
    with serve(refusal(500, "out of order")) as server:
        assert "out of order" in fault(server)
    assert len(server.asked) == 3
    assert f"openai/local at {server.url} failed: " in fault(server), "nobody answers any more"


def test_a_refused_key_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KEY", "sk-very-secret")
    with serve(refusal(401, "Incorrect API key provided: sk-very-secret")) as server:
        message = fault(server, key="LOCAL_KEY")
    assert "LOCAL_KEY" in message
    assert "sk-very-secret" not in message
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert len(server.asked) == 1


def test_half_a_key_is_not_shown_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is cut at 300 letters: what is secret is masked before. No setting names this key."""
    key = "sk-proj-" + "k" * 40
    monkeypatch.setenv("SOME_API_KEY", key)
    for length in range(200, 300, 9):
        with serve(refusal(400, "x" * length + key)) as server:
            assert "kkkk" not in fault(server)


def test_a_request_the_server_rejects_is_not_repeated() -> None:
    with serve(refusal(400, "no such parameter")) as server:
        assert "check policy.model and policy.api_base" in fault(server)
    assert len(server.asked) == 1


def test_a_stall_is_a_fault_that_names_the_timeout() -> None:
    with serve(Answer(stall=PATIENCE)) as server:
        assert "no answer within 0.2 s (policy.timeout)" in fault(server, timeout=0.2)


def test_what_was_asked_and_not_answered_in_time_counts_against_the_budget(tmp_path: Path) -> None:
    """The server may bill for it: three requests of 99 tokens at most, and their prompts."""
    config = PolicyConfig(model="openai/local", timeout=0.2, retries=2, seed=False)
    account = Account(budget=Budget(tmp_path / "spending.jsonl", None, 100_000))
    with serve(Answer(stall=PATIENCE)) as server:
        asked = Completions(replace(config, api_base=server.url), Sampling(max_tokens=99), FaultSource.ENGINE, account)
        with pytest.raises(FaultError):
            asyncio.run(asked.complete([{"role": "user", "content": "Is anybody there?"}], [], 0, False))
    spent = account.budget.spent if account.budget else None
    assert spent and spent.completion_tokens == 3 * 99 and spent.prompt_tokens >= 3


@pytest.mark.parametrize(
    "full",
    [
        refusal(400, "This model's maximum context length is 8 tokens. However, you requested 9 tokens."),
        refusal(500, "the request exceeds the available context size"),
        refusal(400, "no more room", "context_length_exceeded"),
    ],
)
def test_a_context_that_is_too_long_ends_the_episode_and_not_the_run(full: Answer) -> None:
    with serve(full) as server, pytest.raises(ContextFull):
        act(make_agent(server))
    assert len(server.asked) == 1


def test_a_model_and_a_key_are_asked_for_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"policy\.model is not set"):
        LitellmPolicy(PolicyConfig(), Sampling())
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        LitellmPolicy(PolicyConfig(model="openai/local", api_key_env="NO_SUCH_KEY"), Sampling())
    with pytest.raises(ConfigError, match=r"gpt-4\.1 needs a key, and OPENAI_API_KEY is not set"):
        LitellmPolicy(PolicyConfig(model="gpt-4.1"), Sampling())


def test_a_local_server_needs_no_key_and_a_distant_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_KEY", raising=False)
    with serve(completion("Hello.")) as server:
        act(make_agent(server, key="LOCAL_KEY"))
    assert server.headers[0]["authorization"] == "Bearer none"
    distant = PolicyConfig(model="openai/x", api_base="https://models.example.org/v1", api_key_env="LOCAL_KEY")
    with pytest.raises(ConfigError, match="LOCAL_KEY is not set"):
        LitellmPolicy(distant, Sampling())


def test_it_plays_an_episode_with_the_scripted_user() -> None:
    world, spec = DOMAIN.world(TASK), EpisodeSpec(TASK, 0, 0, 0)
    with serve(
        completion(None, ("get_customer_by_phone", '{"phone_number": "555-123-2002"}')),
        completion("Could you turn off airplane mode?"),
    ) as server:
        policy = LitellmPolicy(PolicyConfig(model="openai/local", api_base=server.url), Sampling())
        user = ScriptedUser(TASK, world)
        trajectory = asyncio.run(run_episode(policy.make_agent(world, spec), user, world, spec, Limits()))
    assert (trajectory.outcome, trajectory.stop) == (1.0, StopReason.USER_STOP)
    assert trajectory.policy_usage.prompt_tokens == 22
