"""One episode's environment: toolkits over databases of its own, and τ²-bench's verdict on where they end."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MethodType
from typing import Any

from tau2_exp.domains.delta import Fingerprint, changes, fingerprint
from tau2_exp.domains.progress import db_progress
from tau2_exp.domains.rendering import render
from tau2_exp.domains.tables import Database, twin
from tau2_exp.domains.verdict import check_actions, check_communicated, fraction, judge
from tau2_exp.types import EnvAssertion, GoldAction, Message, Parts, Role, Schema, StopReason, Task, ToolCall, Verdict

_NAMES = {Role.ASSISTANT: "agent", Role.USER: "user"}
_PYDANTIC_VERSION = re.compile(r"(?<=https://errors\.pydantic\.dev/)\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Side:
    """One party's tools over its database. `start` is the database as the episode began."""

    kit: Any
    tools: frozenset[str]
    render: Mapping[str, Callable[[Any], str]]
    database: Database

    def fork(self, known: dict[int, Any]) -> Side:
        """A copy; what both sides hold stays one object, by `known` (see `tables.twin`)."""
        kit = copy.copy(self.kit)
        for name, value in vars(kit).items():
            bound = isinstance(value, MethodType)
            vars(kit)[name] = MethodType(value.__func__, kit) if bound else twin(value, known)
        return dataclasses.replace(self, kit=kit, database=twin(self.database, known))


@dataclass(frozen=True, slots=True)
class Gold:
    """Where the reference path leads: exactly (τ²-bench's, never synced), and leaf by leaf (ours, synced)."""

    databases: dict[Role, Fingerprint]
    changes: dict[str, Any]


class SetupError(ValueError):
    """A task cannot be set up in this world: its calls or data are not of this revision."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all worlds of one domain have in common. `sync` keeps the databases of its two toolkits consistent."""

    policy: str
    schemas: Callable[[Role], list[Schema]]
    gold: Callable[[Task], Gold]
    sync: Callable[[Any, Any], None] | None = None


class TauWorld:
    """A World (see interfaces). Made by `TauDomain.world`, which says what `history` and `solo` are."""

    def __init__(self, task: Task, sides: dict[Role, Side], shared: Shared, history: bool = True, solo: bool = False):
        self.task = task
        self.policy = shared.policy
        self._shared = shared
        self._sides = sides
        self._environment = _Environment(sides, solo)
        self._calls = 0
        self._changes: tuple[int, dict[str, Any]] = (0, {})
        self._sync()
        self._set_up(history)
        self._start = {role: side.database.copy() for role, side in sides.items()}

    def schemas(self, requestor: Role) -> list[Schema]:
        """The OpenAI function schemas of one side's tools."""
        return self._shared.schemas(requestor)

    def call(self, call: ToolCall) -> Message:
        """Run one tool; whatever it raises becomes a tool message with error=True, as in τ²-bench."""
        self._calls += 1
        error = False
        try:
            text = self._run(call, sync=True)
        except Exception as problem:  # whatever it is, the one who called reads it
            text, error = f"Error: {problem}", True
        return Message(Role.TOOL, text, requestor=call.requestor, error=error, call_id=call.id)

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict:
        """τ²-bench's verdict; reward 0 for an ending that is not natural, and where the evaluation raises."""
        if not stop.natural:
            return Verdict(reward=0.0)
        try:
            self._sync()
            return judge(self.task.criteria, messages, self._db_match, self._holds)
        except Exception as problem:  # τ²-bench's evaluation can raise; that is a verdict too
            return Verdict(reward=0.0, raised=f"{type(problem).__name__}: {problem}")

    def parts(self, messages: Sequence[Message]) -> Parts:
        """The score of the world's current state; changes nothing."""
        criteria = self.task.criteria
        if criteria is None:
            return Parts()
        return Parts(
            action=fraction(check_actions(criteria, messages)),
            communicate=fraction(check_communicated(criteria, messages)),
            env_assertion=fraction([self._stands(assertion) for assertion in criteria.assertions or ()]),
            db=float(self._db_match()) if "DB" in criteria.basis else None,
            db_progress=None if criteria.actions is None else db_progress(self._gold.changes, self.changes()),
        )

    def changes(self) -> dict[str, Any]:
        """Leaf path → value now (None: gone), for all that differs from the start of the episode."""
        calls, found = self._changes
        if calls != self._calls:
            found = {}
            for role, side in self._sides.items():
                found |= changes(self._start[role], side.database, _NAMES[role])
            self._changes = (self._calls, found)
        return dict(found)

    def fork(self) -> TauWorld:
        """A copy as it stands; neither ever sees what is done to the other."""
        other = copy.copy(self)
        known: dict[int, Any] = {}
        other._sides = {role: side.fork(known) for role, side in self._sides.items()}
        other._environment = _Environment(other._sides, self._environment.solo)
        return other

    def db_hash(self, role: Role) -> str | None:
        """τ²-bench's hash of one side's whole database; None where there is no such side."""
        side = self._sides.get(role)
        return side.database.hash() if side else None

    def fingerprints(self) -> dict[Role, Fingerprint]:
        """What differs from the parsed databases; equal exactly where τ²-bench's hashes are equal."""
        return {role: fingerprint(side.database) for role, side in self._sides.items()}

    def follow(self, actions: Sequence[GoldAction], sync: bool) -> None:
        """Do the actions of a reference path; one that raises is skipped, as in τ²-bench."""
        self._calls += 1
        for action in actions:
            with suppress(Exception):
                self._run(ToolCall(action.name, action.arguments, action.requestor), sync)

    @property
    def _gold(self) -> Gold:
        return self._shared.gold(self.task)

    def _run(self, call: ToolCall, sync: bool) -> str:
        result = self._environment.make_tool_call(call.name, requestor=call.requestor, **call.arguments)
        if sync:
            self._sync()
        special = self._sides[self._environment.holder(call.name, call.requestor)].render.get(call.name)
        return (special or render)(result)

    def _sync(self) -> None:
        if self._shared.sync is not None:
            self._shared.sync(self._sides[Role.ASSISTANT].kit, self._sides[Role.USER].kit)

    def _set_up(self, history: bool) -> None:
        for call in self.task.setup:
            getattr(self._sides[call.side].kit, call.function)(**call.arguments)
            self._sync()
        if history:
            replay(self, self.task.history)
        self._sync()

    def _db_match(self) -> bool:
        return self.fingerprints() == self._gold.databases

    def _holds(self, assertion: EnvAssertion) -> bool:
        result = getattr(self._sides[assertion.side].kit, assertion.function)(**assertion.arguments)
        self._sync()
        if not isinstance(result, bool):
            raise ValueError(f"Function {assertion.function} returned {type(result)} instead of bool")
        return result == assertion.expected

    def _stands(self, assertion: EnvAssertion) -> bool:
        """The same, for a score on the way: what cannot be asked yet does not hold."""
        try:
            result = getattr(self._sides[assertion.side].kit, assertion.function)(**assertion.arguments)
        except Exception:
            return False
        return bool(result is assertion.expected)


class _Environment:
    """Looks tools up as τ²-bench's environment does, down to what Python says of arguments that clash."""

    def __init__(self, sides: dict[Role, Side], solo: bool):
        self.sides, self.solo = sides, solo

    def holder(self, tool_name: str, requestor: Role) -> Role:
        """Whose tool is meant: a solo agent's calls reach the user's first."""
        user = self.sides.get(Role.USER)
        return Role.USER if self.solo and user and tool_name in user.tools else requestor

    def make_tool_call(self, tool_name: str, requestor: Role = Role.ASSISTANT, **kwargs: Any) -> Any:
        if self.solo and requestor is Role.USER:
            raise ValueError("User tool calls are not allowed in solo mode")
        side = self.sides.get(self.holder(tool_name, requestor))
        if side is None:
            raise ValueError("User tools not available" if requestor is Role.USER else "Tools not available")
        if tool_name not in side.tools:
            raise ValueError(f"Tool '{tool_name}' not found.")
        return getattr(side.kit, tool_name)(**kwargs)

    make_tool_call.__module__ = "tau2.environment.environment"
    make_tool_call.__qualname__ = "Environment.make_tool_call"


def replay(world: TauWorld, messages: Sequence[Message]) -> None:
    """Run the calls of recorded messages again.

    Raises ValueError, as τ²-bench's evaluation does, where a call's result is missing or differs.
    """
    for call, expected in pair_calls(messages):
        result = world.call(call)
        if not same_result(result.content, expected.content):
            raise ValueError(f"Tool call:\n{call}\n\nReturned:\n{result}\n\nExpected:\n{expected}")


def pair_calls(messages: Sequence[Message]) -> list[tuple[ToolCall, Message]]:
    """Each call with its recorded result, in order. Raises ValueError where they do not follow one another."""
    waiting: list[ToolCall] = []
    pairs: list[tuple[ToolCall, Message]] = []
    for message in messages:
        if message.role is not Role.TOOL:
            if waiting:
                raise ValueError(f"Tool message expected. Got {message.role.value}")
            waiting = list(message.tool_calls)
            continue
        if not waiting:
            raise ValueError("Tool message not expected. Tool messages should always follow a tool call.")
        call = waiting.pop(0)
        if call.id and message.call_id and call.id != message.call_id:
            raise ValueError(f"Tool call id mismatch. Got {call.id} and {message.call_id}")
        pairs.append((call, message))
    if waiting:
        raise ValueError("Tool message expected. Got None.")
    return pairs


def same_result(result: str | None, expected: str | None) -> bool:
    """Whether two results are equal as JSON, or else as text. Raises TypeError for a result without text."""
    return bool(_loaded(result) == _loaded(expected))


def same_text(text: str | None, expected: str | None) -> bool:
    """Whether two results read the same, whichever pydantic worded their errors: it names its version in a link."""
    return _versionless(text) == _versionless(expected)


def _loaded(text: str | None) -> Any:
    try:
        return json.loads(text)  # type: ignore[arg-type]
    except json.JSONDecodeError:
        return _versionless(text)


def _versionless(text: str | None) -> str | None:
    return text and _PYDANTIC_VERSION.sub("", text)
