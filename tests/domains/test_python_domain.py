"""A domain in Python: tools from functions, worlds that share nothing, and the score from where the state ends."""

from __future__ import annotations

import asyncio

import pytest
from brought import House

from tau2_exp.config import RolloutConfig
from tau2_exp.policies.oracle import GoldAgent
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.types import GREETING, EpisodeSpec, Message, Role, StopReason, ToolCall
from tau2_exp.users.scripted import ScriptedUser

HEAT = {"room": "attic", "degrees": 18}


@pytest.fixture
def house() -> House:
    return House()


def test_a_function_becomes_a_tool(house: House) -> None:
    schema = house.schemas(Role.ASSISTANT)[0]["function"]
    assert schema["name"] == "heat" and schema["description"] == "Heat a room."
    assert schema["parameters"]["required"] == ["room", "degrees"], "the state is none of the tool's parameters"
    assert schema["parameters"]["properties"]["degrees"]["description"] == "the temperature, in degrees Celsius."
    assert [s["function"]["name"] for s in house.schemas(Role.USER)] == ["switch"]


def test_worlds_share_nothing(house: House) -> None:
    task = house.task("path")
    one, other = house.world(task), house.world(task)
    result = one.call(ToolCall("heat", HEAT))
    assert (result.content, result.error) == ('{"hall": 20, "attic": 18}', False)
    assert one.changes() == {"state.rooms.attic": 18} and other.changes() == {}
    assert House.state.rooms["attic"] == 10


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("heat", {"room": "cellar", "degrees": 1}),
        ToolCall("heat", {}),
        ToolCall("switch", {}),
        ToolCall("heat", {}, Role.USER),
    ],
    ids=str,
)
def test_what_a_tool_raises_is_read_by_the_caller(house: House, call: ToolCall) -> None:
    result = house.world(house.task("path")).call(call)
    assert result.error and result.content and result.content.startswith("Error: ")


def test_progress_and_verdict_follow_from_the_goal(house: House) -> None:
    world = house.world(house.task("goal"))
    assert world.parts([]).db_progress == 0.0 and world.verdict([], StopReason.AGENT_STOP).reward == 0.0
    world.call(ToolCall("heat", HEAT))
    assert world.parts([]).db_progress == 0.5
    world.call(ToolCall("heat", {**HEAT, "room": "hall"}))
    assert (world.parts([]).db_progress, world.parts([]).db) == (1.0, 1.0)
    verdict = world.verdict([], StopReason.AGENT_STOP)
    assert verdict.reward == 1.0 and verdict.breakdown == {"DB": 1.0}
    assert world.verdict([], StopReason.MAX_STEPS).reward == 0.0
    world.call(ToolCall("switch", {}, Role.USER))
    assert world.verdict([], StopReason.AGENT_STOP).reward == 0.0, "and nothing else may be changed"


def test_what_has_to_be_said(house: House) -> None:
    world = house.world(house.task("told"))
    assert world.parts([GREETING]).communicate == 0.0 and world.parts([GREETING]).db_progress is None
    assert world.verdict([Message(Role.ASSISTANT, "It is Noon.")], StopReason.AGENT_STOP).reward == 1.0


def test_a_verdict_of_its_own(house: House) -> None:
    world = house.world(house.task("own"))
    assert world.verdict([], StopReason.USER_STOP).reward == 0.5
    world.call(ToolCall("heat", HEAT))
    assert world.verdict([], StopReason.USER_STOP).reward == 0.9


def test_the_scripted_user_uses_its_tools_where_it_is_asked_to(house: House) -> None:
    task = house.task("path")
    world = house.world(task)
    spec = EpisodeSpec(task, 0, 0, 0)
    limits = Limits(20, 10, RolloutConfig().unparsable_limit)
    played = asyncio.run(run_episode(GoldAgent(task), ScriptedUser(task, world), world, spec, limits))
    assert played.outcome == 1.0 and played.opening[-1].content == "I am cold, and it is dark."
    asked, answered = played.turns[1].messages[0], played.turns[1].messages[1:]
    assert asked.content == "Please use switch({})." and [m.content for m in answered if m.content] == ["on", "on"]


def test_the_revision_follows_the_tasks(house: House) -> None:
    class Bright(House):
        policy = "Keep the light on."

    assert house.revision.startswith("house@") and house.revision == House().revision != Bright().revision
