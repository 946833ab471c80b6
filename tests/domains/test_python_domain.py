"""A domain in Python: tools from functions, worlds that share nothing, and the score from where the state ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from brought import House

from tau2_exp.config import RolloutConfig
from tau2_exp.domains import PythonDomain, PythonTask
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


# ------------------------------------------------------------ what others bring


def put(state, items: list[str]):
    """Put these into the cart."""
    state["cart"] = items


def add(state, item: str):
    """Add one."""
    state["cart"].append(item)


class Shop(PythonDomain):
    name, policy, state, agent_tools = "shop", "Sell.", {"cart": [], "open": {"b", "a"}}, (put, add)
    given: tuple[PythonTask, ...] = (
        PythonTask("two", "Buy.", actions=[ToolCall("put", {"items": ["x"]}), ToolCall("add", {"item": "y"})]),
    )

    def make_tasks(self):
        return {"train": self.given}


def shop(**changed: Any) -> Shop:
    return type("Shop", (Shop,), changed)()


def test_what_a_tool_keeps_of_its_arguments_changes_no_call_and_no_task() -> None:
    domain = shop()
    task = domain.task("two")
    for _ in range(2):
        world = domain.world(task)
        calls = [ToolCall("put", {"items": ["x"]}), ToolCall("add", {"item": "y"})]
        for call in calls:
            world.call(call)
        assert calls[0].arguments == {"items": ["x"]} and world.verdict([], StopReason.AGENT_STOP).reward == 1.0
    assert task.criteria and task.criteria.actions and task.criteria.actions[0].arguments == {"items": ["x"]}


def test_a_set_in_the_state_has_one_order_and_an_object_without_a_text_is_refused() -> None:
    letters = [chr(code) for code in range(97, 123)]
    one, other = (shop(state={"cart": [], "open": set(order)}) for order in (letters, letters[::-1]))
    assert one.revision == other.revision
    with pytest.raises(TypeError, match="no text of its own"):
        _ = shop(state={"cart": object()}).revision


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (PythonTask(1, "Buy.", say=["x"]), "it must be a text"),  # type: ignore[arg-type]
        (PythonTask("a", "Buy.", say="20"), "say must be a list of texts"),
        (PythonTask("a", "Buy.", say=[20]), "say must be a list of texts"),  # type: ignore[list-item]
    ],
)
def test_a_task_that_cannot_be_judged_as_it_is_meant_is_refused(task: PythonTask, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        shop(given=(task,)).tasks("train")


def test_a_number_with_a_comma_can_be_said() -> None:
    domain = shop(given=(PythonTask("a", "Buy.", say=["1,000"]),))
    world = domain.world(domain.task("a"))
    assert world.verdict([Message(Role.ASSISTANT, "It is 1,000 dollars.")], StopReason.AGENT_STOP).reward == 1.0


@pytest.mark.parametrize("score", [3, -1, float("nan")])
def test_a_score_of_ones_own_is_between_0_and_1(score: float) -> None:
    domain = shop(verdict=lambda self, task, state, messages: score)
    world = domain.world(domain.task("two"))
    with pytest.raises(ValueError, match="a score is between 0 and 1"):
        world.verdict([], StopReason.AGENT_STOP)


async def wait(state):
    """Wait."""


def many(state, *items: str):
    """Take many."""


def hidden(state, _item: str):
    """Take one."""


@pytest.mark.parametrize("tool", [wait, many, hidden])
def test_a_tool_that_nobody_can_call_is_refused(tool: Any) -> None:
    with pytest.raises(ValueError, match=f"the tool {tool.__name__}"):
        shop(agent_tools=(tool,)).schemas(Role.ASSISTANT)
