"""τ²-bench's domains: their tasks, documents and schemas, and the worlds of their tasks."""

from __future__ import annotations

import gc
import json
import tomllib
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from tau2_exp.config import Document, Provider
from tau2_exp.domains.policy import document_text, policy_text
from tau2_exp.domains.providers import ProviderError, Source, Toolkit, find_source
from tau2_exp.domains.sync import sync_telecom
from tau2_exp.domains.tables import Database, set_apart
from tau2_exp.domains.tasks import read_splits, read_tasks
from tau2_exp.domains.world import Gold, SetupError, Shared, Side, TauWorld
from tau2_exp.types import Role, Schema, Task

NAMES = ("airline", "retail", "telecom", "mock")


class TauDomain:
    """A Domain (see interfaces) of τ²-bench; its files are parsed when first needed, once a process."""

    def __init__(self, name: str, source: Source):
        self.name = name
        self.provider = source.name
        self.revision = source.revision
        self._source = source
        self._gold: dict[str, tuple[Task, Gold]] = {}
        self._schemas: dict[Role, list[Schema]] = {}

    def tasks(self, split: str) -> list[Task]:
        """The tasks of a split, in the file's order. Raises ValueError naming the valid splits."""
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        ids = set(self.splits[split])
        return [task for task in self._tasks.values() if task.id in ids]

    def task(self, task_id: str) -> Task:
        """One task. Raises ValueError where there is none of that id."""
        if task_id not in self._tasks:
            raise ValueError(f"{self.name} has no task {task_id!r}")
        return self._tasks[task_id]

    def record(self, task_id: str) -> dict[str, Any]:
        """τ²-bench's own record of a task, with what is not scored. Raises KeyError where there is none of that id."""
        return self._records[task_id]

    def world(self, task: Task, history: bool = True, solo: bool = False) -> TauWorld:
        """A fresh world; without `history` the task's own past conversation is not replayed first.

        In a `solo` world the agent holds the user's tools, and there is no user. Raises SetupError for a task, of
        another revision perhaps, that these tools and databases cannot be set up for.
        """
        try:
            sides = {role: self._side(role, toolkit, task) for role, toolkit in self._toolkits.items()}
            return TauWorld(task, sides, self._shared, history, solo)
        except Exception as problem:  # whatever the task's own calls and data raise
            raise SetupError(f"{task.key} cannot be set up: {type(problem).__name__}: {problem}") from problem

    def schemas(self, role: Role) -> list[Schema]:
        """The OpenAI function schemas of one side's tools; empty for a side without tools."""
        if role not in self._schemas:
            toolkit = self._toolkits.get(role)
            self._schemas[role] = toolkit.schemas() if toolkit else []
        return self._schemas[role]

    def document(self, document: Document) -> str:
        """The policy document for the agent's prompt: whole, compressed, or empty."""
        return document_text(self.name, document, self.policy)

    def guidelines(self, tools: bool) -> str:
        """τ²-bench's own instructions to the user simulator."""
        name = "simulation_guidelines_tools.md" if tools else "simulation_guidelines.md"
        return self._source.data.read(f"user_simulator/{name}")

    def gold(self, task: Task) -> Gold:
        """Where the task's reference path leads; computed once a task."""
        known = self._gold.get(task.id)
        if known is None or known[0] is not task:
            known = self._gold[task.id] = (task, self._walk(task))
        return known[1]

    @cached_property
    def policy(self) -> str:
        """The domain's whole policy document."""
        return policy_text(self.name, self._source.data.read)

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """The ids of the tasks of each split."""
        return read_splits(self.name, self._read(f"domains/{self.name}/split_tasks.json"))

    @cached_property
    def _shared(self) -> Shared:
        return Shared(self.policy, self.schemas, self.gold, sync_telecom if self.name == "telecom" else None)

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        return read_tasks(self.name, self._read(f"domains/{self.name}/tasks.json"))

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        return {record["id"]: record for record in self._read(f"domains/{self.name}/tasks.json")}

    @cached_property
    def _toolkits(self) -> dict[Role, Toolkit]:
        return self._source.toolkits(self.name)

    @cached_property
    def _bases(self) -> dict[Role, BaseModel]:
        """The parsed databases, for good: set apart from the collector, which would walk them again and again."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            bases = {role: _base(toolkit, self._read(toolkit.data)) for role, toolkit in self._toolkits.items()}
        finally:
            if collecting:
                gc.enable()
        gc.freeze()
        return bases

    def _side(self, role: Role, toolkit: Toolkit, task: Task) -> Side:
        base = self._bases[role]
        data = task.agent_data if role is Role.ASSISTANT else task.user_data
        if data is not None:
            base = _base(toolkit, _merged(Database.over(base).contents(), data))
        database = Database.over(base)
        return Side(toolkit.make(database), frozenset(toolkit.tools), toolkit.render, database)

    def _walk(self, task: Task) -> Gold:
        actions = task.criteria.actions or () if task.criteria else ()
        world = self.world(task)
        world.follow(actions, sync=False)
        databases = world.fingerprints()
        if self._shared.sync is not None:
            world = self.world(task)
            world.follow(actions, sync=True)
        return Gold(databases, world.changes())

    def _read(self, name: str) -> Any:
        text = self._source.data.read(name)
        return tomllib.loads(text) if name.endswith(".toml") else json.loads(text)


_loaded: dict[tuple[str, str], TauDomain] = {}


def load_domain(name: str, provider: str = Provider.auto) -> TauDomain:
    """One of τ²-bench's domains, once a process; `provider` is a word of Provider.

    Raises ProviderError where it cannot be had, ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"no domain {name!r}; there are {', '.join(NAMES)}")
    key = (name, provider)
    if key not in _loaded:
        source = find_source(provider)
        if name not in source.domains:
            raise ProviderError(f"domain {name} needs τ²-bench's own package (the extra 'tau2'), not {source.name}")
        _loaded[key] = TauDomain(name, source)
    return _loaded[key]


def _base(toolkit: Toolkit, data: dict[str, Any]) -> BaseModel:
    base: BaseModel = toolkit.model.model_validate(data)
    set_apart(base)
    return base


def _merged(data: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Deep update: objects are merged, everything else is replaced."""
    for key, value in update.items():
        old = data.get(key)
        data[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return data
