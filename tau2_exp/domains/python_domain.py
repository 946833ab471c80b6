"""A domain of one's own in a few lines of Python: tasks, functions as tools, a state, a policy sentence."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tau2_exp.config import Document
from tau2_exp.domains.delta import leaf_changes
from tau2_exp.domains.providers.functions import function_schema
from tau2_exp.domains.python_world import STATE, PythonWorld, as_json, plain_state, tool_result
from tau2_exp.types import Criteria, GoldAction, Message, Role, Scenario, Schema, Task, ToolCall

Tool = Callable[..., Any]  # its first parameter is the state, the others are the tool's own


@dataclass(frozen=True, slots=True)
class PythonTask:
    """One task of a PythonDomain; it is evaluated only on what it gives.

    An episode succeeds where its last state is the one that `goal` (else the path of `actions`) leads to, and the agent
    has said all of `say`. A path that changes nothing means that nothing must be changed.
    """

    id: str
    instructions: str  # to whoever plays the user: "You want to …"
    start: Mapping[str, Any] = field(default_factory=dict)  # of the state, what differs from the domain's own
    goal: Mapping[str, Any] | None = None  # of the state, what has to differ from the start at the end
    actions: Sequence[ToolCall] = ()  # one right way, which policy.oracle=gold demonstrates
    say: Sequence[str] = ()  # what the agent has to tell the user


class PythonDomain(ABC):
    """A Domain (see interfaces). Derive from it, set the attributes, and give the tasks of each split.

    A world has a copy of `state`, which tools change in place; a tool's docstring (with an `Args:` section) and
    annotations become its schema, and what it raises is an error that the caller reads.
    """

    name: str  # without a slash
    policy: str  # what the agent is told
    state: Any  # a dict of JSON data, or a dataclass
    agent_tools: Sequence[Tool] = ()
    user_tools: Sequence[Tool] = ()
    user_guidelines = (
        "You play a customer who talks to a service agent. Write only what the customer says, one short message at a "
        "time, and make nothing up. Write ###STOP### when your request is fulfilled or refused for good."
    )

    @abstractmethod
    def make_tasks(self) -> Mapping[str, Sequence[PythonTask]]:
        """The tasks of each split. What trains reads `train`; others are for evaluations."""

    def verdict(self, task: PythonTask, state: Any, messages: Sequence[Message]) -> float | None:
        """Your own score of an ended episode, 0 to 1. None: the task's goal and `say` decide."""
        return None

    # ------------------------------------------------------------ what a Domain has

    @property
    def provider(self) -> str:
        """The class as module:name."""
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @cached_property
    def revision(self) -> str:
        """A hash of the tasks, the state and the policy: a change of any is another revision."""
        tasks = {split: [dataclasses.asdict(task) for task in tasks] for split, tasks in self._splits.items()}
        told = [tasks, plain_state(self.state), self.policy]
        try:
            text = json.dumps(told, sort_keys=True, default=as_json)
        except TypeError:  # keys of several types have no order before they are texts
            text = json.dumps(json.loads(json.dumps(told, default=as_json)), sort_keys=True)
        return f"{self.name}@{hashlib.sha256(text.encode()).hexdigest()[:7]}"

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """The ids of the tasks of each split."""
        return {split: [task.id for task in tasks] for split, tasks in self._splits.items()}

    def tasks(self, split: str) -> list[Task]:
        """The tasks of a split, always in the same order. Raises ValueError naming the valid splits."""
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        return [self._tasks[task_id] for task_id in self.splits[split]]

    def task(self, task_id: str) -> Task:
        """One task. Raises ValueError where there is none of that id."""
        if task_id not in self._tasks:
            raise ValueError(f"{self.name} has no task {task_id!r}")
        return self._tasks[task_id]

    def world(self, task: Task) -> PythonWorld:
        """A fresh world for one episode, with a copy of the task's first state."""
        mine = self._mine[task.id]
        return PythonWorld(
            task,
            self.policy,
            self._start(mine),
            self._tools,
            self._schemas,
            self._goals[task.id],
            lambda state, messages: self.verdict(mine, state, messages),
        )

    def schemas(self, role: Role) -> list[Schema]:
        """The OpenAI function schemas of one side's tools."""
        return self._schemas[role]

    def document(self, document: Document) -> str:
        """The policy for the agent's prompt; empty for Document.none."""
        return "" if document is Document.none else self.policy

    def guidelines(self, tools: bool) -> str:
        """The prompt of a language model that is the user; the same with and without tools."""
        return self.user_guidelines

    # ------------------------------------------------------------ made once

    @cached_property
    def _splits(self) -> dict[str, list[PythonTask]]:
        return {split: list(tasks) for split, tasks in self.make_tasks().items()}

    @cached_property
    def _mine(self) -> dict[str, PythonTask]:
        """Raises ValueError where one id names two tasks."""
        found: dict[str, PythonTask] = {}
        for task in (task for tasks in self._splits.values() for task in tasks):
            if found.setdefault(task.id, task) != task:
                raise ValueError(f"{self.name}: two tasks have the id {task.id!r}")
        return found

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        """Raises ValueError where a task cannot be judged, or its path does not lead anywhere."""
        _ = self._goals
        return {task.id: self._task(task) for task in self._mine.values()}

    @cached_property
    def _tools(self) -> dict[Role, dict[str, Tool]]:
        sides = ((Role.ASSISTANT, self.agent_tools), (Role.USER, self.user_tools))
        return {role: {tool.__name__: tool for tool in tools} for role, tools in sides}

    @cached_property
    def _schemas(self) -> dict[Role, list[Schema]]:
        return {
            role: [function_schema(name, _told(tool), hidden=_first(tool)) for name, tool in tools.items()]
            for role, tools in self._tools.items()
        }

    @cached_property
    def _goals(self) -> dict[str, dict[str, Any] | None]:
        return {task.id: self._goal(task) for task in self._mine.values()}

    def _task(self, task: PythonTask) -> Task:
        if not isinstance(task.id, str) or not task.id:
            raise ValueError(f"{self.name}: a task has the id {task.id!r}; it must be a text")
        if isinstance(task.say, str) or not all(isinstance(text, str) and text for text in task.say):
            raise ValueError(f"{self.name}: task {task.id!r}: say must be a list of texts, not {task.say!r}")
        reached = task.goal is not None or bool(task.actions)
        if not reached and not task.say and type(self).verdict is PythonDomain.verdict:
            raise ValueError(
                f"{self.name}: task {task.id!r} has no goal, no actions and nothing to say: nothing judges it"
            )
        actions = tuple(
            GoldAction(str(number), call.name, call.arguments, call.requestor)
            for number, call in enumerate(task.actions)
        )
        basis = ("DB",) * reached + ("COMMUNICATE",) * bool(task.say)
        say = tuple(text.replace(",", "") for text in task.say)  # as what was said is read
        criteria = Criteria(actions if reached else None, None, say or None, basis)
        return Task(task.id, self.name, Scenario(task.instructions), criteria)

    def _start(self, task: PythonTask) -> Any:
        return _updated(copy.deepcopy(self.state), copy.deepcopy(dict(task.start)))

    def _goal(self, task: PythonTask) -> dict[str, Any] | None:
        """Leaf path → value at the end, for all that has to change; None where no state is wanted.

        Raises ValueError where an action of the path fails: it is to be a right way.
        """
        if task.goal is None and not task.actions:
            return None
        start, end = self._start(task), self._start(task)
        if task.goal is not None:
            end = _updated(end, copy.deepcopy(dict(task.goal)))
        else:
            for call in task.actions:
                result = tool_result(end, self._tools[call.requestor], call)
                if result.error:
                    raise ValueError(f"{self.name}: the path of task {task.id!r}: {call.name}: {result.content}")
        return leaf_changes(plain_state(start), plain_state(end), STATE)


def _told(tool: Tool) -> Tool:
    """The tool itself. Raises ValueError where nothing says what it does, or where it cannot be called by name."""
    if not inspect.getdoc(tool):
        raise ValueError(f"the tool {tool.__name__} has no docstring; it is what the caller is told of the tool")
    if inspect.iscoroutinefunction(tool):
        raise ValueError(f"the tool {tool.__name__} is async; a tool is a plain function")
    for name, parameter in list(inspect.signature(tool).parameters.items())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or name.startswith("_"):
            raise ValueError(f"the tool {tool.__name__}: {parameter}: a tool's parameters have names, without _ first")
    return tool


def _first(tool: Tool) -> str:
    """The parameter that is the state. Raises ValueError where the tool has none."""
    names = list(inspect.signature(tool).parameters)
    if not names:
        raise ValueError(f"the tool {tool.__name__} takes nothing; its first parameter is the state")
    return names[0]


def _updated(value: Any, update: Mapping[str, Any]) -> Any:
    """`value` with the update in it: objects are merged, everything else is replaced."""
    for key, new in update.items():
        old = value.get(key) if isinstance(value, dict) else getattr(value, key)
        merged = _updated(old, new) if isinstance(new, Mapping) and _is_object(old) else new
        if isinstance(value, dict):
            value[key] = merged
        else:
            setattr(value, key, merged)
    return value


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
