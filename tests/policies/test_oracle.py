"""The oracles play real tasks against the scripted user: gold in every domain, the workflow by conversation alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tau2_exp.config import ConfigError, OracleKind
from tau2_exp.domains import TauDomain, load_domain
from tau2_exp.policies.oracle import OraclePolicy
from tau2_exp.policies.workflow import WorkflowAgent
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.types import EpisodeSpec, Message, Role, StopReason, Task, Trajectory
from tau2_exp.users.scripted import ScriptedUser


def play(domain: TauDomain, tasks: Iterable[Task], kind: OracleKind) -> list[Trajectory]:
    async def one(task: Task) -> Trajectory:
        world, spec = domain.world(task), EpisodeSpec(task, sample=0, seed=0, index=0)
        agent = OraclePolicy(kind).make_agent(world, spec)
        return await run_episode(agent, ScriptedUser(task, world), world, spec, Limits())

    async def every() -> list[Trajectory]:
        return [await one(task) for task in tasks]

    return asyncio.run(every())


def unsolved(trajectories: list[Trajectory]) -> list[tuple[str, StopReason]]:
    return [(t.task, t.stop) for t in trajectories if t.outcome != 1.0]


@pytest.mark.parametrize("name", ["telecom", "airline", "retail"])
def test_the_gold_oracle_solves_every_base_task(name: str) -> None:
    domain = load_domain(name)
    assert unsolved(play(domain, domain.tasks("base"), OracleKind.gold)) == []


def test_the_workflow_solves_train_test_and_every_eighth_development_task() -> None:
    """benchmarks/oracles.py plays all 2171 development tasks."""
    domain = load_domain("telecom")
    tasks = [*domain.tasks("train"), *domain.tasks("test"), *domain.tasks("development")[::8]]
    trajectories = play(domain, tasks, OracleKind.workflow)
    assert unsolved(trajectories) == []
    assert max(t.steps for t in trajectories) <= 70, "well inside τ²-bench's hundred steps"
    assert {t.tool_errors for t in trajectories} == {0}


def test_one_observation_leads_to_one_next_action() -> None:
    """What a small model is to learn: the problem, where the caller is, and what was just heard say what to do next."""
    domain = load_domain("telecom")
    following: dict[tuple[str, str], set[str]] = defaultdict(set)
    for trajectory in play(domain, domain.tasks("train"), OracleKind.workflow):
        opening = heard = trajectory.opening[-1].content or ""
        for turn in trajectory.turns:
            following[opening, heard].add(turn.text)
            heard = turn.messages[-1].content or ""
    assert {key: texts for key, texts in following.items() if len(texts) > 1} == {}


def hear(agent: WorkflowAgent, text: str) -> Message:
    action = asyncio.run(agent.act([Message(Role.USER, text)]))
    assert action.message is not None
    return action.message


def test_the_workflow_asks_for_a_number_it_was_not_told() -> None:
    agent = WorkflowAgent()
    assert hear(agent, "My phone shows no service.").content == "What is your phone number?"
    (call,) = hear(agent, "It is 555-123-2002.").tool_calls
    assert (call.name, call.arguments) == ("get_customer_by_phone", {"phone_number": "555-123-2002"})


def test_what_the_workflow_cannot_read_ends_in_a_transfer() -> None:
    agent = WorkflowAgent()
    hear(agent, "My phone, 555-123-2002, shows no service.")
    (call,) = hear(agent, "Error: no such customer").tool_calls
    assert call.name == "transfer_to_human_agents"
    assert "TRANSFERRED" in (hear(agent, "Transfer successful").content or "")


def test_the_workflow_knows_telecom_only() -> None:
    domain = load_domain("retail")
    task = domain.tasks("base")[0]
    with pytest.raises(ConfigError, match=r"policy\.oracle=gold"):
        OraclePolicy(OracleKind.workflow).make_agent(domain.world(task), EpisodeSpec(task, 0, 0, 0))
