"""Whatever τ²-bench answered on its reference paths, we answer: results, hashes, assertions, rewards, schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tau2_exp.domains import TauDomain
from tau2_exp.types import Message, Role, StopReason, Task, ToolCall


def walk(domain: TauDomain, task: Task) -> tuple[Any, list[Message]]:
    """The reference path in a fresh world, and the agent saying all that is to be communicated."""
    world = domain.world(task)
    messages = list(task.history)
    for action in task.criteria.actions or ():
        call = ToolCall(action.name, action.arguments, action.requestor)
        messages += [Message(action.requestor, tool_calls=(call,)), world.call(call)]
    messages.append(Message(Role.ASSISTANT, " ".join(task.criteria.communicate or ("Done.",))))
    return world, messages


@pytest.mark.parametrize(
    ("name", "split", "count"), [("airline", "base", 50), ("retail", "base", 114), ("telecom", "full", 2285)]
)
def test_reference_paths(
    load: Callable[[str], TauDomain], parity: Callable[[str], Any], name: str, split: str, count: int
) -> None:
    recorded, domain = parity(f"gold_{name}.json"), load(name)
    tasks = domain.tasks(split)
    assert len(tasks) == count
    for task in tasks:
        answer = recorded[task.id]
        world, messages = walk(domain, task)
        results = [{"content": m.content, "error": m.error} for m in messages if m.role is Role.TOOL]
        assert results == answer["results"], task.id
        assert world.db_hash(Role.ASSISTANT) == answer["agent_db_hash"], task.id
        assert world.db_hash(Role.USER) == answer["user_db_hash"], task.id
        verdict = world.verdict(messages, StopReason.USER_STOP)
        assert list(verdict.env_assertions) == answer["env_assertions"], task.id
        assert verdict.reward == 1.0, task.id


def test_mock_needs_its_own_package(load: Callable[[str], TauDomain]) -> None:
    from tau2_exp.domains import ProviderError

    try:
        domain = load("mock")
    except ProviderError as problem:
        assert "extra 'tau2'" in str(problem)
        return
    tasks = domain.tasks("base")
    rewards = []
    for task in tasks:
        world, messages = walk(domain, task)
        rewards.append(world.verdict(messages, StopReason.AGENT_STOP).reward)
    assert (len(tasks), sum(rewards)) == (9, 8.0)


@pytest.mark.parametrize("name", ["airline", "retail", "telecom"])
def test_schemas_but_for_descriptions(
    load: Callable[[str], TauDomain], parity: Callable[[str], Any], name: str
) -> None:
    recorded, domain = parity("tool_schemas.json")[name], load(name)
    for role, side in ((Role.ASSISTANT, "agent"), (Role.USER, "user")):
        ours, theirs = domain.schemas(role), recorded[side]
        assert undescribed(ours) == undescribed(theirs)
        assert [order(schema) for schema in ours] == [order(schema) for schema in theirs]
        assert all(schema["function"]["description"] for schema in ours)


def undescribed(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not (k == "description" and isinstance(v, str))}
        return {k: undescribed(v) for k, v in kept.items()}
    return [undescribed(item) for item in value] if isinstance(value, list) else value


def order(schema: dict[str, Any]) -> tuple[str, list[str]]:
    return schema["function"]["name"], list(schema["function"]["parameters"].get("properties", {}))
