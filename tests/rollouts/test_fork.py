"""An episode goes on from the state before any turn: a copy is what replaying makes, and nobody sees another's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import brought
import pytest
from players import CounterWorld, ScriptAgent, ScriptUser, make_spec

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError, RolloutConfig
from tau2_exp.domains import TauWorld, load_domain
from tau2_exp.interfaces import World
from tau2_exp.policies.action import say, use
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.rollouts.state import State
from tau2_exp.types import (
    Action,
    Branch,
    EpisodeSpec,
    Message,
    Role,
    StopReason,
    Task,
    ToolCall,
    Trajectory,
    Turn,
    stable_seed,
)
from tau2_exp.users.scripted import ScriptedUser

TELECOM = load_domain("telecom")


def calls_of(task: Task, domain: str, draw: random.Random) -> list[ToolCall]:
    """The reference path, with tools between that write without being told anything (telecom's share an object)."""
    path = [ToolCall(a.name, a.arguments, a.requestor) for a in (task.criteria.actions or ())]
    schemas = load_domain(domain).schemas(Role.USER)
    free = [s["function"]["name"] for s in schemas if not s["function"]["parameters"].get("required")]
    extra = [ToolCall(draw.choice(free), {}, Role.USER) for _ in range(6)] if free else []
    if free:
        extra += [ToolCall(name, {}, Role.USER) for name in ("connect_vpn", "disconnect_vpn", "connect_vpn")]
    for call in extra:
        path.insert(draw.randrange(len(path) + 1), call)
    return path


def look(world: TauWorld) -> tuple:
    return world.db_hash(Role.ASSISTANT), world.db_hash(Role.USER), world.changes(), world.fingerprints()


@pytest.mark.parametrize("name", ["airline", "retail", "telecom"])
def test_a_fork_and_its_origin_never_see_each_others_changes_and_a_forks_fork_equals_a_replay(name: str) -> None:
    domain, draw = load_domain(name), random.Random(3)
    for task in domain.tasks("train")[:12]:
        calls = calls_of(task, name, draw)
        cuts = sorted(draw.choices(range(len(calls) + 1), k=2))
        origin = domain.world(task)
        for call in calls[: cuts[0]]:
            origin.call(call)
        fork, before = origin.fork(), look(origin)
        assert look(fork) == before
        for call in calls[cuts[0] : cuts[1]]:
            fork.call(call)
        assert look(origin) == before
        grandchild, between = fork.fork(), look(fork)
        whole = domain.world(task)
        wanted = [whole.call(call) for call in calls]
        found = [grandchild.call(call) for call in calls[cuts[1] :]]
        assert found == wanted[cuts[1] :] and look(grandchild) == look(whole)
        assert look(fork) == between and look(origin) == before
        assert [origin.call(call) for call in calls[cuts[0] :]] == wanted[cuts[0] :] and look(fork) == between


def test_what_two_tools_of_a_world_share_is_shared_in_its_fork_alone() -> None:
    """The phone holds the very object that the toolkit will connect with again."""
    origin = TELECOM.world(TELECOM.tasks("train")[0])
    origin.call(ToolCall("connect_vpn", {}, Role.USER))
    fork = origin.fork()
    for world in (origin, fork):
        kit = world._sides[Role.USER].kit
        assert kit.db.device.vpn_details is kit.default_vpn_details
    fork._sides[Role.USER].kit.break_vpn()
    assert look(origin) != look(fork)
    again = TELECOM.world(origin.task)
    again.call(ToolCall("connect_vpn", {}, Role.USER))
    assert look(origin) == look(again)


def test_a_world_written_in_python_forks_with_its_state() -> None:
    house = brought.House()
    origin = house.world(house.task("own"))
    fork = origin.fork()
    fork.call(ToolCall("heat", {"room": "attic", "degrees": 18}))
    assert not origin.changes() and fork.changes() and fork.fork().changes() == fork.changes()
    assert fork.verdict([], StopReason.USER_STOP).reward != origin.verdict([], StopReason.USER_STOP).reward


# ---------------------------------------------------------------- whole episodes


@dataclass
class Wanderer:
    """Does any of a few things in telecom, by the seed of its episode and the number of its turn alone."""

    name = "wanderer"

    def make_agent(self, world: World, spec: EpisodeSpec) -> Wandering:
        return Wandering(spec.seed, 0)

    def continue_agent(self, world: World, spec: EpisodeSpec, turns: Sequence[Turn]) -> Wandering:
        return Wandering(spec.seed, len(turns))


@dataclass
class Wandering:
    seed: int
    turn: int

    async def act(self, heard: Sequence[Message]) -> Action:
        draw = random.Random(stable_seed(self.seed, self.turn))
        self.turn += 1
        asked = ("toggle airplane mode", "toggle mobile data", "check your status bar", "reboot your device")
        deeds = [say(f"Please {draw.choice(asked)}, and then {draw.choice(asked)}.") for _ in range(4)]
        deeds += [use("get_customer_by_phone", {"phone_number": "555-123-2002"}), use("nothing", {})]
        deeds += [Action(None, "gibberish", error="no tool call"), say("Goodbye.", done=self.turn > 9)]
        return draw.choice(deeds)

    def close(self) -> None: ...


def setting(limits: Limits) -> EpisodeSetting:
    return EpisodeSetting(
        TELECOM.world, lambda spec, world: ScriptedUser(spec.task, world), limits, RolloutConfig(concurrency=4)
    )


def test_a_continuation_with_the_trunks_own_seed_is_the_trunk_and_with_another_shares_its_prefix() -> None:
    """From every turn of episodes that end in every way: messages, counters, changes, limits and verdict."""
    place = setting(Limits(max_steps=40, max_errors=3, unparsable=2))
    tasks = TELECOM.tasks("train")[:8]
    specs = [EpisodeSpec(task, 0, seed, seed) for seed, task in enumerate(tasks)]
    kept: dict[int, list[State]] = {}
    trunks = asyncio.run(rollout(place, Wanderer(), specs, kept=kept))
    assert len({trunk.stop for trunk in trunks}) > 2, "the test says less than it should"
    for spec, trunk in zip(specs, trunks, strict=True):
        states = kept[spec.index]
        assert [len(state.turns) for state in states] == list(range(len(trunk.turns)))
        branches = [Branch(0, turn, 0) for turn in range(len(states))]
        again = [replace(spec, sample=1 + b.turn, index=b.turn, branch=b) for b in branches]
        starts = dict(enumerate(states))
        for branch, told in zip(branches, asyncio.run(rollout(place, Wanderer(), again, starts=starts)), strict=True):
            assert told.branch == branch and told.first_turn == branch.turn
            assert timeless(replace(told, branch=None, sample=0)) == timeless(trunk)
            assert decode(Trajectory, encode(told)) == told
        others = [replace(one, seed=one.seed + 1000) for one in again]
        for told in asyncio.run(rollout(place, Wanderer(), others, starts=starts)):
            assert told.turns[: told.first_turn] == trunk.turns[: told.first_turn]
            assert told.messages[: len(trunk.opening)] == trunk.opening
        first = asyncio.run(rollout(place, Wanderer(), again, starts=starts))
        assert timeless(replace(first[0], branch=None, sample=0)) == timeless(trunk), "the states stayed as they were"


def timeless(trajectory: Trajectory) -> Trajectory:
    turns = tuple(replace(turn, policy_seconds=0.0, user_seconds=0.0) for turn in trajectory.turns)
    return replace(trajectory, turns=turns, seconds=0.0)


def test_what_cannot_be_copied_is_named_with_its_mend() -> None:
    class Mute(ScriptUser):
        fork = None

    place = EpisodeSetting(CounterWorld, lambda spec, world: Mute("Hi."), Limits(), RolloutConfig())
    with pytest.raises(ConfigError, match="Mute: this user has no method fork"):
        asyncio.run(rollout(place, Wanderer(), [make_spec()], kept={}))

    class Once:
        name = "once"

        def make_agent(self, world: World, spec: EpisodeSpec) -> ScriptAgent:
            return ScriptAgent("Hi")

    place = EpisodeSetting(CounterWorld, lambda spec, world: ScriptUser("Hi."), Limits(), RolloutConfig())
    kept: dict[int, list[State]] = {}
    asyncio.run(rollout(place, Once(), [make_spec()], kept=kept))
    with pytest.raises(ConfigError, match="Once: this policy has no method continue_agent"):
        asyncio.run(rollout(place, Once(), [make_spec()], starts={0: kept[0][0]}))
