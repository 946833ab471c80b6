"""The protocols through which rooms meet: who takes part in an episode, and who generates tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tau2_exp.types import (
    Action,
    EpisodeSpec,
    Generation,
    Message,
    Parts,
    Role,
    Sampling,
    Schema,
    StopReason,
    Task,
    ToolCall,
    Usage,
    Verdict,
)


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

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_id(self, token: str) -> int | None: ...
