"""Small players for tests of the episode: a world of one counter, users and agents that follow a script."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Sequence
from typing import Any

from tau2_exp.interfaces import World
from tau2_exp.types import (
    Action,
    Criteria,
    EpisodeSpec,
    Message,
    Parts,
    Role,
    Scenario,
    Schema,
    StopReason,
    Task,
    ToolCall,
    Turn,
    Usage,
    Verdict,
    stable_seed,
)


def make_task(id: str = "count", history: tuple[Message, ...] = ()) -> Task:
    return Task(id, "counting", Scenario("Count."), Criteria(None, None, None, ("DB",)), history=history)


def make_spec(index: int = 0, task: Task | None = None) -> EpisodeSpec:
    return EpisodeSpec(task or make_task(), sample=0, seed=index, index=index)


class CounterWorld:
    """Solved when the counter stands at two."""

    policy = "Count to two."

    def __init__(self, task: Task):
        self.task, self.count = task, 0

    def schemas(self, requestor: Role) -> list[Schema]:
        return []

    def call(self, call: ToolCall) -> Message:
        if call.name == "explode":
            raise RuntimeError("the world broke")
        known = call.name == "add"
        self.count += known
        text = str(self.count) if known else f"Error: Tool '{call.name}' not found."
        return Message(Role.TOOL, text, requestor=call.requestor, error=not known, call_id=call.id)

    def parts(self, messages: Sequence[Message]) -> Parts:
        return Parts(db_progress=min(self.count, 2) / 2)

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict:
        return Verdict(reward=float(stop.natural and self.count == 2))

    def changes(self) -> dict[str, Any]:
        return {"agent.count": self.count} if self.count else {}

    def fork(self) -> CounterWorld:
        return copy.copy(self)


class ScriptUser:
    """Says the lines it is given, then STOP; a ToolCall among them is a call of its own tool."""

    name = "script"
    usage = Usage()

    def __init__(self, *lines: str | ToolCall | Exception, delay: float = 0.0):
        self.lines, self.delay = list(lines), delay
        self.heard: list[Message] = []

    async def reply(self, heard: Sequence[Message]) -> Message:
        self.heard.extend(heard)
        if self.delay:
            await asyncio.sleep(self.delay)
        line = self.lines.pop(0) if self.lines else "###STOP###"
        if isinstance(line, Exception):
            raise line
        if isinstance(line, ToolCall):
            return Message(Role.USER, tool_calls=(line,))
        return Message(Role.USER, line)

    def fork(self, world: World, seed: int) -> ScriptUser:
        other = copy.copy(self)
        other.lines, other.heard = list(self.lines), list(self.heard)
        return other


class ScriptAgent:
    """Does what it is given: a str is said, a ToolCall called, None is unparsable; then it is done."""

    def __init__(self, *deeds: str | ToolCall | Exception | None, delay: float = 0.0):
        self.deeds, self.delay = list(deeds), delay
        self.heard: list[Message] = []
        self.closed = 0

    async def act(self, heard: Sequence[Message]) -> Action:
        self.heard.extend(heard)
        if self.delay:
            await asyncio.sleep(self.delay)
        if not self.deeds:
            return Action(None, "done", done=True)
        deed = self.deeds.pop(0)
        if isinstance(deed, Exception):
            raise deed
        if deed is None:
            return Action(None, "gibberish", error="no tool call")
        if isinstance(deed, ToolCall):
            return Action(Message(Role.ASSISTANT, tool_calls=(deed,)), deed.name)
        return Action(Message(Role.ASSISTANT, deed), deed)

    def close(self) -> None:
        self.closed += 1


class LockWorld:
    """Opens by the key that is pressed at one of its moments, which its task's id names; the other keys do nothing."""

    policy = "Press a key at every moment."
    MOMENTS = 6

    def __init__(self, task: Task):
        self.task, self.pressed = task, ""

    def schemas(self, requestor: Role) -> list[Schema]:
        return []

    def call(self, call: ToolCall) -> Message:
        self.pressed += call.name
        return Message(Role.TOOL, "Click.", requestor=call.requestor, call_id=call.id)

    def parts(self, messages: Sequence[Message]) -> Parts:
        return Parts()

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict:
        return Verdict(reward=float(stop.natural and self.pressed[int(self.task.id)] == "b"))

    def changes(self) -> dict[str, Any]:
        return {"agent.pressed": self.pressed}

    def fork(self) -> LockWorld:
        return copy.copy(self)


class PressingPolicy:
    """Presses `b` as often as `chance` says, else `a`, at every moment of a lock; each seed presses other keys."""

    name = "pressing"

    def __init__(self, chance: float = 0.5):
        self.chance = chance

    def make_agent(self, world: World, spec: EpisodeSpec) -> PressingAgent:
        return PressingAgent(self, spec, 0)

    def continue_agent(self, world: World, spec: EpisodeSpec, turns: Sequence[Turn]) -> PressingAgent:
        return PressingAgent(self, spec, len(turns))


class PressingAgent:
    def __init__(self, policy: PressingPolicy, spec: EpisodeSpec, turn: int):
        self.policy, self.spec, self.turn = policy, spec, turn

    async def act(self, heard: Sequence[Message]) -> Action:
        self.turn += 1
        if self.turn > LockWorld.MOMENTS:
            return Action(None, "done", done=True)
        key = "b" if random.Random(stable_seed(self.spec.seed, self.turn)).random() < self.policy.chance else "a"
        return Action(Message(Role.ASSISTANT, tool_calls=(ToolCall(key, {}),)), key, usage=Usage(0, 10))

    def close(self) -> None: ...
