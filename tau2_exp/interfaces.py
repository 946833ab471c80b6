"""The protocols through which rooms meet, and those of what a user brings by a dotted path (docs/extending.md)."""

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
    Turn,
    Usage,
    Verdict,
)


@runtime_checkable
class Domain(Protocol):
    """Tasks, the agent's documents, and a world for each episode. A process makes a domain once."""

    name: str  # without a slash: it begins the keys of the tasks
    provider: str  # who brings it, with its version
    revision: str  # of the tasks: results of different revisions do not compare

    @property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """The ids of the tasks of each split; training reads `train`."""
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
        """The policy document for the agent's prompt: whole, compressed, or empty."""
        ...

    def guidelines(self, tools: bool) -> str:
        """The prompt of a language model that is the user, with or without tools of its own."""
        ...


class World(Protocol):
    """One episode's environment: two toolkits over databases of its own."""

    task: Task
    policy: str  # the domain's policy document, whole

    def schemas(self, requestor: Role) -> list[Schema]:
        """The OpenAI function schemas of the tools of the agent (ASSISTANT) or the user (USER)."""
        ...

    def call(self, call: ToolCall) -> Message:
        """Run one tool; whatever it raises becomes a tool message with error=True, as in τ²-bench."""
        ...

    def verdict(self, messages: Sequence[Message], stop: StopReason) -> Verdict:
        """Evaluate the ended episode; an ending that is not natural has reward 0."""
        ...

    def parts(self, messages: Sequence[Message]) -> Parts:
        """The score of the world's current state; changes nothing."""
        ...

    def changes(self) -> dict[str, Any]:
        """Leaf path (`agent.orders.#W1.status`) → value, for all that differs from the start of the episode."""
        ...

    def fork(self) -> World:
        """A copy as it stands; neither ever sees what is done to the other."""
        ...


@runtime_checkable
class User(Protocol):
    """The user of one episode."""

    name: str
    usage: Usage

    async def reply(self, heard: Sequence[Message]) -> Message:
        """Answer the agent's message, or the results of this user's own tool calls. Raises FaultError(USER)."""
        ...


class ForkingUser(User, Protocol):
    """A user whose episode can be continued from any turn: `reward=branch` and the bench for credit need one."""

    def fork(self, world: World, seed: int) -> User:
        """A copy as it stands, for an episode that goes on in `world`; neither sees what the other hears.

        What it draws at random from now on follows from `seed`, and its usage begins at nothing.
        """
        ...


class Agent(Protocol):
    """The agent of one episode, made by a policy."""

    async def act(self, heard: Sequence[Message]) -> Action:
        """The next action, given the messages since the last one (the agent's tool results, the user's words).

        Raises ContextFull, BudgetReached or FaultError.
        """
        ...

    def close(self) -> None:
        """The episode is over; release what it held (a cache row, a session)."""
        ...


@runtime_checkable
class Policy(Protocol):
    """What acts as the agent."""

    name: str

    def make_agent(self, world: World, spec: EpisodeSpec) -> Agent:
        """Make the agent of one episode in its world."""
        ...


class ForkingPolicy(Policy, Protocol):
    """A policy whose agents can go on from the middle of an episode."""

    def continue_agent(self, world: World, spec: EpisodeSpec, turns: Sequence[Turn]) -> Agent:
        """Make the agent of an episode whose first turns were these, as if it had made them itself.

        It hears next what followed the last of them. What it samples follows from the seed of `spec`.
        """
        ...


class Generator(Protocol):
    """Token ids in, token ids and log-probabilities out: the torch engine or SGLang over HTTP."""

    def open(self, session: int) -> None:
        """Start an episode's session. A deterministic engine decodes only when every open session waits for it."""
        ...

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """Continue `ids` (the whole context so far; what was cached of it for this session is reused)."""
        ...

    def close(self, session: int) -> None:
        """End the session and release what is cached for it."""
        ...


class Tokenizer(Protocol):
    """A tokenizer that adds no special tokens, and reads the text of a special token as that token."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template of its model; None for a model without one."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        ...

    def token_id(self, token: str) -> int | None:
        """The id of a token; None where the vocabulary lacks it."""
        ...


@runtime_checkable
class Curriculum(Protocol):
    """Chooses the next tasks and weighs their advantages. Tasks are named by their keys (`domain/id`)."""

    def draw(self, n: int, exclude: Collection[str] = ()) -> list[str]:
        """The keys of `n` tasks for one step. Those in `exclude` were drawn earlier in the step: others come first."""
        ...

    def record(self, key: str, outcomes: Sequence[float]) -> None:
        """Note the outcomes (0 to 1, where 1 is solved) of a group of this task; never empty."""
        ...

    def weight(self, key: str) -> float:
        """The factor on the task's advantages."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes, as JSON data: it is saved with each checkpoint."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...


@runtime_checkable
class RunLogger(Protocol):
    """Where a run's metrics are copied to."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log one step's metrics; numbers that were not finite are None."""
        ...

    def episodes(self, files: Mapping[str, Sequence[Trajectory]]) -> None:
        """Log some trajectories of each of the run's files, when the run has finished."""
        ...

    def summary(self, results: Mapping[str, Any]) -> None:
        """Log the results, as results.json will hold them."""
        ...

    def finish(self, failed: bool) -> None:
        """End the log: the run has ended, or this attempt at it has."""
        ...


# ---------------------------------------------------------------- what a user names by a dotted path


class RewardFunction(Protocol):
    """`reward.function`: the reward of an ended episode; `progress` has one number a turn."""

    def __call__(self, trajectory: Trajectory, config: RewardConfig) -> Reward:
        """Compute the reward."""
        ...


class CreditFunction(Protocol):
    """`reward.credit`: the advantages of one task's trajectories, one number for each turn of each of them."""

    def __call__(
        self, trajectories: Sequence[Trajectory], rewards: Sequence[Reward], config: RewardConfig
    ) -> Sequence[Sequence[float]]:
        """Compute the advantages, in the order of the trajectories. They must be finite."""
        ...


class MakeCurriculum(Protocol):
    """`curriculum.function`: called once a run; `keys` are those of the training tasks."""

    def __call__(self, keys: Sequence[str], config: CurriculumConfig, seed: int) -> Curriculum:
        """Make the run's curriculum."""
        ...


class MakeUser(Protocol):
    """`user.function`: called for each episode; `seed` is the episode's own."""

    def __call__(self, task: Task, world: World, config: UserConfig, seed: int) -> User:
        """Make the user of one episode."""
        ...


class MakePolicy(Protocol):
    """`policy.function`: called once for each way of sampling (an evaluation has two: greedy and sampled)."""

    def __call__(self, config: PolicyConfig, sampling: Sampling) -> Policy:
        """Make a policy that samples as `sampling` says."""
        ...


class MakeDomain(Protocol):
    """`domain.provider`: called once a process."""

    def __call__(self) -> Domain:
        """Make the domain."""
        ...


class StageFunction(Protocol):
    """`stage.function`: does the stage and returns what results.json shall hold; `context` is a StageContext."""

    def __call__(self, context: Any) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]:
        """Do the stage."""
        ...


class MakeLogger(Protocol):
    """`logger.function`: called once for each attempt at a run; `folder` is the run's."""

    def __call__(self, config: Config, folder: Path) -> RunLogger:
        """Make the logger."""
        ...
