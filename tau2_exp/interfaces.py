"""The protocols through which rooms meet, and those of what a user may bring by its dotted path (docs/extending.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tau2_exp.config import Config, CurriculumConfig, Document, PolicyConfig, RewardConfig, UserConfig
from tau2_exp.types import (
    Action,
    EpisodeSpec,
    Generation,
    Message,
    Parts,
    Reward,
    Role,
    Sampling,
    Schema,
    StopReason,
    Task,
    ToolCall,
    Trajectory,
    Usage,
    Verdict,
)


@runtime_checkable
class Domain(Protocol):
    """Tasks, what the agent is told about them, and a world for each episode. A process makes a domain once."""

    name: str  # without a slash: it begins the keys of the tasks
    provider: str  # who brings it, with its version
    revision: str  # of the tasks: results of different revisions do not compare

    @property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """The ids of the tasks of each split; what trains reads `train`."""
        ...

    def tasks(self, split: str) -> list[Task]:
        """The tasks of a split, always in the same order. Raises ValueError naming the valid splits."""
        ...

    def task(self, task_id: str) -> Task:
        """One task. Raises ValueError where there is none of that id."""
        ...

    def world(self, task: Task) -> World:
        """A fresh world for one episode."""
        ...

    def schemas(self, role: Role) -> list[Schema]:
        """The tools of the agent (ASSISTANT) or of the user (USER)."""
        ...

    def document(self, document: Document) -> str:
        """What the agent is told: the policy whole, compressed, or nothing."""
        ...

    def guidelines(self, tools: bool) -> str:
        """The instructions to a language model that plays the user, with or without tools of its own."""
        ...


class World(Protocol):
    """One episode's environment: two toolkits over databases of its own."""

    task: Task
    policy: str  # the domain's policy document, whole

    def schemas(self, requestor: Role) -> list[Schema]: ...

    def call(self, call: ToolCall) -> Message:
        """Run one tool; whatever it raises becomes a tool message with error=True, as in τ²-bench."""
        ...

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict: ...

    def parts(self, messages: Sequence[Message]) -> Parts:
        """The score as the world stands now; changes nothing."""
        ...

    def changes(self) -> dict[str, Any]:
        """Leaf path (`agent.orders.#W1.status`) → value, for all that differs from the start of the episode."""
        ...


@runtime_checkable
class User(Protocol):
    """Who the agent talks to, for one episode."""

    name: str
    usage: Usage

    async def reply(self, heard: Sequence[Message]) -> Message:
        """Answer the agent's message, or the results of this user's own tool calls. Raises FaultError(USER)."""
        ...


class Agent(Protocol):
    """A policy's speaker for one episode."""

    async def act(self, heard: Sequence[Message]) -> Action:
        """Act on what was heard since the last action (its own tool results, the user's words)."""
        ...

    def close(self) -> None:
        """The episode is over; release what it held (a cache row, a session)."""
        ...


@runtime_checkable
class Policy(Protocol):
    """What acts as the agent. `make_agent` makes the agent of one episode in its world."""

    name: str

    def make_agent(self, world: World, spec: EpisodeSpec) -> Agent: ...


class Generator(Protocol):
    """Token ids in, token ids and log-probabilities out: the torch engine or SGLang over HTTP."""

    def open(self, session: int) -> None:
        """An episode begins. A deterministic engine decodes only when every open session waits for it."""
        ...

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """Continue `ids` (the whole context so far; what was cached of it for this session is reused)."""
        ...

    def close(self, session: int) -> None: ...


class Tokenizer(Protocol):
    """The little of a tokenizer that is used: no special tokens added, special text parsed as such."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja text by which its model was taught to converse; None for a model without one."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_id(self, token: str) -> int | None: ...


@runtime_checkable
class Curriculum(Protocol):
    """Which task comes next, and how much its advantages count. Tasks are named by their keys (`domain/id`)."""

    def draw(self, n: int, exclude: Collection[str] = ()) -> list[str]:
        """`n` tasks for one step. Those in `exclude` were drawn before in this step: others come first."""
        ...

    def record(self, key: str, outcomes: Sequence[float]) -> None:
        """Note how the episodes of a group of this task ended; never empty, 1 is solved."""
        ...

    def weight(self, key: str) -> float:
        """What the task's advantages are multiplied by."""
        ...

    def state(self) -> dict[str, Any]:
        """All that changes, as JSON data: it is saved with each checkpoint."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        ...


@runtime_checkable
class RunLogger(Protocol):
    """Where a run's metrics are copied to."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """One step's metrics; numbers that were not finite are None."""
        ...

    def episodes(self, files: Mapping[str, Sequence[Trajectory]]) -> None:
        """Some trajectories of each of the run's files, when it has finished."""
        ...

    def summary(self, results: Mapping[str, Any]) -> None:
        """What results.json will hold."""
        ...

    def finish(self, failed: bool) -> None:
        """The run has ended, or this attempt at it has."""
        ...


# ---------------------------------------------------------------- what a user names by a dotted path


class RewardFunction(Protocol):
    """`reward.function`: the reward of an ended episode; `progress` has one number a turn."""

    def __call__(self, trajectory: Trajectory, config: RewardConfig) -> Reward: ...


class CreditFunction(Protocol):
    """`reward.credit`: the advantages of one task's trajectories, one number for each turn of each of them."""

    def __call__(
        self, trajectories: Sequence[Trajectory], rewards: Sequence[Reward], config: RewardConfig
    ) -> Sequence[Sequence[float]]: ...


class MakeCurriculum(Protocol):
    """`curriculum.function`: called once a run; `keys` are those of the training tasks."""

    def __call__(self, keys: Sequence[str], config: CurriculumConfig, seed: int) -> Curriculum: ...


class MakeUser(Protocol):
    """`user.function`: called for each episode; `seed` is the episode's own."""

    def __call__(self, task: Task, world: World, config: UserConfig, seed: int) -> User: ...


class MakePolicy(Protocol):
    """`policy.function`: called once for each way of sampling (an evaluation has two: greedy and sampled)."""

    def __call__(self, config: PolicyConfig, sampling: Sampling) -> Policy: ...


class MakeDomain(Protocol):
    """`domain.provider`: called once a process."""

    def __call__(self) -> Domain: ...


class StageFunction(Protocol):
    """`stage.function`: does the stage and returns what results.json shall hold; `context` is a StageContext."""

    def __call__(self, context: Any) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]: ...


class MakeLogger(Protocol):
    """`logger.function`: called once for each attempt at a run; `folder` is the run's."""

    def __call__(self, config: Config, folder: Path) -> RunLogger: ...
