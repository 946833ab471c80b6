"""The state of an episode between two turns: what a turn reads and changes, and how it is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.interfaces import Agent, Policy, User, World
from tau2_exp.types import EpisodeSpec, Message, Parts, Turn


@dataclass(slots=True)
class State:
    """Where an episode stands. `heard` is what the agent hears next; None before the episode has opened."""

    world: World
    user: User
    heard: Sequence[Message] | None = None
    initial: Parts = field(default_factory=Parts)
    opening: int = 0  # messages before the first turn
    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    tool_errors: int = 0
    unparsable: int = 0

    def fork(self, seed: int) -> State:
        """A copy; neither sees what happens to the other. What its user draws at random follows from `seed`.

        Raises ConfigError where the world or the user cannot be copied.
        """
        world = _method(self.world, "world", "fork")()
        user = _method(self.user, "user", "fork")(world, seed)
        return replace(self, world=world, user=user, messages=list(self.messages), turns=list(self.turns))


def continuing_agent(policy: Policy, state: State, spec: EpisodeSpec) -> Agent:
    """The agent of an episode that goes on from `state`. Raises ConfigError where the policy has no such agents."""
    agent: Agent = _method(policy, "policy", "continue_agent")(state.world, spec, state.turns)
    return agent


def _method(owner: Any, what: str, name: str) -> Any:
    method = getattr(owner, name, None)
    if method is None:
        raise ConfigError(
            f"{type(owner).__name__}: this {what} has no method {name}, so that its episodes cannot be continued from "
            "the middle; give it one (docs/extending.md), or use a reward that needs no branches"
        )
    return method
