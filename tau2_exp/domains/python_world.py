"""One episode of a domain written in Python: its own state, the tools that change it, and its evaluation."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tau2_exp.domains.delta import leaf_changes
from tau2_exp.domains.progress import db_progress
from tau2_exp.domains.verdict import check_actions, check_communicated, fraction, judge
from tau2_exp.types import Message, Parts, Role, Schema, StopReason, Task, ToolCall, Verdict

STATE = "state"  # the first step of every leaf path
Tools = Mapping[str, Callable[..., Any]]
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")


class PythonWorld:
    """A World (see interfaces). Made by `PythonDomain.world`.

    `goal` maps leaf paths to the values that have to differ from the start at the end; None where no state is wanted.
    `own_verdict` scores the last state itself, or returns None.
    """

    def __init__(
        self,
        task: Task,
        policy: str,
        state: Any,
        tools: Mapping[Role, Tools],
        schemas: Mapping[Role, list[Schema]],
        goal: dict[str, Any] | None,
        own_verdict: Callable[[Any, Sequence[Message]], float | None],
    ):
        self.task, self.policy = task, policy
        self._state, self._tools, self._schemas = state, tools, schemas
        self._goal, self._own_verdict = goal, own_verdict
        self._start = plain_state(state)

    def schemas(self, requestor: Role) -> list[Schema]:
        """The OpenAI function schemas of one side's tools."""
        return self._schemas[requestor]

    def call(self, call: ToolCall) -> Message:
        """Run one tool; whatever it raises becomes a tool message with error=True."""
        return tool_result(self._state, self._tools[call.requestor], call)

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict:
        """Evaluate the ended episode; the domain's own score, where it gives one, is the reward."""
        if not stop.natural:
            return Verdict(reward=0.0)
        own = self._own_verdict(self._state, messages)
        judged = judge(self.task.criteria, messages, self._reached, lambda _: True)
        if own is not None and not 0.0 <= own <= 1.0:  # nor is not-a-number
            raise ValueError(f"{self.task.domain}: verdict() gave {own}; a score is between 0 and 1")
        return judged if own is None else dataclasses.replace(judged, reward=float(own), breakdown={})

    def parts(self, messages: Sequence[Message]) -> Parts:
        """The score of the world's current state; changes nothing."""
        criteria = self.task.criteria
        assert criteria is not None
        return Parts(
            action=fraction(check_actions(criteria, messages)),
            communicate=fraction(check_communicated(criteria, messages)),
            db=None if self._goal is None else float(self._reached()),
            db_progress=None if self._goal is None else db_progress(self._goal, self.changes()),
        )

    def changes(self) -> dict[str, Any]:
        """Leaf path → value now (None: gone), for all that differs from the start of the episode."""
        return leaf_changes(self._start, plain_state(self._state), STATE)

    def fork(self) -> PythonWorld:
        """A copy as it stands; neither ever sees what is done to the other."""
        other = copy.copy(self)
        other._state = copy.deepcopy(self._state)
        return other

    def _reached(self) -> bool:
        return self._goal is None or self.changes() == self._goal


def tool_result(state: Any, tools: Tools, call: ToolCall) -> Message:
    """Run one tool on a state; whatever it raises becomes an error that the caller reads."""
    try:
        if call.name not in tools:
            raise ValueError(f"Tool '{call.name}' not found.")
        # A copy: a state that kept the arguments would change the recorded call, and the task that it may come from.
        result = tools[call.name](state, **copy.deepcopy(call.arguments))
        text, error = result if isinstance(result, str) else json.dumps(result, default=as_json), False
    except (Exception, SystemExit) as problem:
        text, error = f"Error: {problem}", True
    return Message(Role.TOOL, text, requestor=call.requestor, error=error, call_id=call.id)


def plain_state(state: Any) -> Any:
    """A copy of a state as JSON data; what JSON does not know is there as `as_json` has it.

    Raises TypeError for a state that is neither a dict nor a dataclass, or that holds what has no text of its own.
    """
    if not isinstance(state, dict) and not dataclasses.is_dataclass(state):
        raise TypeError(f"a domain's state is a dict or a dataclass, not {type(state).__name__}")
    return json.loads(json.dumps(state, default=as_json))


def as_json(value: Any) -> Any:
    """What stands for a value in JSON: a set's members in order, a dataclass's fields, else its text.

    Raises TypeError for an object whose text is its address, which is another one in each process.
    """
    if isinstance(value, (set, frozenset)):
        members = [json.loads(json.dumps(member, default=as_json)) for member in value]
        return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    text = str(value)
    if _ADDRESS.search(text):
        raise TypeError(f"a {type(value).__name__} is no JSON data, and has no text of its own")
    return text
