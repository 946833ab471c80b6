"""Many episodes at once: none waits for another, faults are retried, order is the specs'."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENCE
from players import CounterWorld, ScriptAgent, ScriptUser, make_spec

from tau2_exp.config import ConfigError, OutOfMemory, RolloutConfig
from tau2_exp.interfaces import World
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting, check_faults, had_room, rollout
from tau2_exp.types import ContextFull, EpisodeSpec, Fault, FaultError, FaultSource, StopReason, ToolCall

ADD = ToolCall("add", {})


class Scripted:
    """A policy whose agents all do the same; `broken` lists specs whose first attempts fail, and how often."""

    name = "scripted"

    def __init__(self, *deeds, delay: float = 0.0, broken: dict[int, int] | None = None):
        self.deeds, self.delay, self.broken = deeds, delay, broken or {}

    def make_agent(self, world: World, spec: EpisodeSpec) -> ScriptAgent:
        if self.broken.get(spec.index, 0) > 0:
            self.broken[spec.index] -= 1
            return ScriptAgent(OSError("lost the server"))
        return ScriptAgent(*self.deeds, delay=self.delay)


def episode_setting(**config) -> EpisodeSetting:
    return EpisodeSetting(CounterWorld, lambda spec, world: ScriptUser("Hi."), Limits(), RolloutConfig(**config))


def test_episodes_that_wait_do_not_wait_for_one_another():
    async def all_at_once() -> int:
        everyone = asyncio.Barrier(64)  # lets nobody through before all 64 users are waiting at once

        class MeetingUser(ScriptUser):
            async def reply(self, heard):
                await everyone.wait()
                return await super().reply(heard)

        place = EpisodeSetting(
            CounterWorld, lambda spec, world: MeetingUser("Hi."), Limits(), RolloutConfig(concurrency=64)
        )
        specs = [make_spec(i) for i in range(64)]
        return len(await asyncio.wait_for(rollout(place, Scripted("one?"), specs), timeout=PATIENCE))

    assert asyncio.run(all_at_once()) == 64


def test_a_fault_while_an_episode_is_made_is_tried_again_and_ends_no_other():
    closed: list[ScriptAgent] = []

    class Counted(Scripted):
        def make_agent(self, world, spec):
            closed.append(super().make_agent(world, spec))
            return closed[-1]

    def user(spec, world):
        if spec.index == 1:
            raise FaultError(FaultSource.USER, "no line")
        return ScriptUser("Hi.")

    place = EpisodeSetting(CounterWorld, user, Limits(), RolloutConfig(fault_retries=2))
    good, bad = asyncio.run(rollout(place, Counted("one?"), [make_spec(0), make_spec(1)]))
    assert good.scored and not bad.scored and bad.attempts == 3
    assert bad.fault == Fault(FaultSource.USER, "no line") and all(agent.closed for agent in closed)


def test_an_agent_that_cannot_be_closed_is_a_fault_of_its_own_episode():
    class Stuck(ScriptAgent):
        def close(self):
            raise OSError("stuck")

    class Policy(Scripted):
        def make_agent(self, world, spec):
            return Stuck() if spec.index else ScriptAgent()

    good, bad = asyncio.run(rollout(episode_setting(fault_retries=0), Policy(), [make_spec(0), make_spec(1)]))
    assert good.scored and bad.fault and bad.fault.source is FaultSource.ENGINE


def test_what_ends_the_rollout_is_raised_as_it_is_and_outside_of_any_group():
    def keyless(spec, world):
        raise ConfigError("user.api_key_env: environment variable KEY is not set")

    place = EpisodeSetting(CounterWorld, keyless, Limits(), RolloutConfig())
    with pytest.raises(ConfigError, match="KEY is not set"):
        asyncio.run(rollout(place, Scripted(), [make_spec(i) for i in range(3)]))

    class Grouping(ScriptUser):
        async def reply(self, heard):
            async with asyncio.TaskGroup() as group:
                await group.create_task(self.fail())

        async def fail(self):
            raise OSError("the line is dead")

    place = EpisodeSetting(CounterWorld, lambda spec, world: Grouping(), Limits(), RolloutConfig(fault_retries=0))
    (trajectory,) = asyncio.run(rollout(place, Scripted(), [make_spec()]))
    assert trajectory.fault and trajectory.fault.message == "OSError: the line is dead"


def test_a_lack_of_memory_ends_the_rollout_and_is_not_tried_again():
    """Neither as a fault of the engine, nor once more."""
    made: list[int] = []

    class Starved(Scripted):
        def make_agent(self, world: World, spec: EpisodeSpec) -> ScriptAgent:
            made.append(spec.index)
            return ScriptAgent(OutOfMemory("out of memory while sampling: lower engine.cache_gib"))

    place = episode_setting(concurrency=1, fault_retries=5)
    with pytest.raises(OutOfMemory, match=r"lower engine\.cache_gib"):
        asyncio.run(rollout(place, Starved(), [make_spec(0)]))
    assert made == [0]


def test_a_context_without_room_for_the_first_turn_is_no_score():
    place = episode_setting()
    full = asyncio.run(rollout(place, Scripted(ContextFull()), [make_spec(0)]))
    with pytest.raises(ConfigError, match="test: the first prompt of counting does not fit into the agent's context"):
        check_faults(full, "test")
    later = asyncio.run(rollout(place, Scripted("Hm.", ContextFull()), [make_spec(0)]))
    check_faults([*full, *later], "test")
    assert [had_room(t) for t in (*full, *later)] == [False, True]


def test_a_faulty_episode_starts_afresh_and_says_how_often():
    policy = Scripted(ADD, ADD, broken={1: 1, 2: 9})
    trajectories = asyncio.run(rollout(episode_setting(fault_retries=2), policy, [make_spec(i) for i in range(3)]))
    assert [t.attempts for t in trajectories] == [1, 2, 3]
    assert [t.outcome for t in trajectories] == [1.0, 1.0, 0.0]
    assert [t.scored for t in trajectories] == [True, True, False]
    assert trajectories[2].stop is StopReason.FAULT


def test_results_are_in_the_order_of_the_specs_and_each_is_reported_as_it_ends():
    seen = []
    specs = [make_spec(i) for i in range(10)]
    trajectories = asyncio.run(
        rollout(episode_setting(concurrency=3), Scripted(ADD), specs, lambda t: seen.append(t.seed))
    )
    assert [t.seed for t in trajectories] == list(range(10)) and sorted(seen) == list(range(10))
