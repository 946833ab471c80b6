"""An API model as the agent, through litellm and a local server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from patience import PATIENCE
from servers import Answer, Served, completion, refusal, serve

from tau2_exp.config import ConfigError, PolicyConfig
from tau2_exp.domains import load_domain
from tau2_exp.interfaces import Agent
from tau2_exp.llm import retry
from tau2_exp.policies.litellm import LitellmPolicy
from tau2_exp.rollouts.episode import Limits, run_episode
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
)
from tau2_exp.users.scripted import ScriptedUser

pytest.importorskip("litellm", reason="the extra `litellm` is not installed")
DOMAIN = load_domain("telecom")
TASK = next(task for task in DOMAIN.tasks("full") if task.id.startswith("[service_issue]airplane_mode_on["))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)


def make_agent(server: Served, timeout: float = PATIENCE, key: str | None = None) -> Agent:
    config = PolicyConfig(model="openai/local", api_base=server.url, timeout=timeout, retries=2, api_key_env=key)
    world = DOMAIN.world(TASK)
    return LitellmPolicy(config, Sampling(temperature=0.3, max_tokens=99)).make_agent(world, EpisodeSpec(TASK, 0, 0, 0))


def act(agent: Agent, *heard: Message) -> Action:
    said: Sequence[Message] = heard or [Message(Role.USER, "My phone shows no service.")]
    return asyncio.run(agent.act(said))


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


@pytest.mark.parametrize(
    "reply", [completion(""), completion(None, ("get_bills", "{not json")), completion(None, ("f", "3"))]
)
def test_an_unusable_reply_is_an_unparsable_turn(reply: Answer) -> None:
    with serve(reply) as server:
        action = act(make_agent(server))
    assert action.message is None
    assert action.error
    assert len(server.asked) == 1


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


def test_a_request_the_server_rejects_is_not_repeated() -> None:
    with serve(refusal(400, "no such parameter")) as server:
        assert "check policy.model and policy.api_base" in fault(server)
    assert len(server.asked) == 1


def test_a_stall_is_a_fault_that_names_the_timeout() -> None:
    with serve(Answer(stall=PATIENCE)) as server:
        assert "no answer within 0.2 s (policy.timeout)" in fault(server, timeout=0.2)


def test_a_context_that_is_too_long_ends_the_episode_and_not_the_run() -> None:
    words = "This model's maximum context length is 8 tokens. However, your messages resulted in 9 tokens."
    with serve(refusal(400, words)) as server, pytest.raises(ContextFull):
        act(make_agent(server))


def test_a_model_and_a_key_are_asked_for_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"policy\.model is not set"):
        LitellmPolicy(PolicyConfig(), Sampling())
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        LitellmPolicy(PolicyConfig(model="openai/local", api_key_env="NO_SUCH_KEY"), Sampling())


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
