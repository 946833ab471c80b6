"""The state that a turn began in, as a text: turns of equal states are comparable."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import Anchor
from tau2_exp.types import Message, Trajectory

State = str


def world_states(trajectory: Trajectory) -> list[State]:
    """The world that each turn began in: all that the episode had changed before it.

    A change to None of what had changed is one back to its first value, or a field that is gone: the record of a turn
    does not tell which, and both count as the former.
    """
    changed: dict[str, Any] = {}
    states = []
    for turn in trajectory.turns:
        states.append(json.dumps(changed, sort_keys=True))
        for path, value in turn.changes.items():
            if value is None and path in changed:
                del changed[path]
            else:
                changed[path] = value
    return states


def anchor_states(trajectory: Trajectory, anchor: Anchor) -> list[State]:
    """The anchor state of each turn: its world, and with `world+last_observation` the last message before it."""
    worlds = world_states(trajectory)
    if anchor is Anchor.world:
        return worlds
    return [f"{world} {_observation(trajectory, t)}" for t, world in enumerate(worlds)]


def by_state(states: Sequence[Sequence[State]]) -> dict[State, list[tuple[int, int]]]:
    """The turns (episode, turn) of each state, from the states of each episode's turns."""
    found: dict[State, list[tuple[int, int]]] = defaultdict(list)
    for i, own in enumerate(states):
        for t, state in enumerate(own):
            found[state].append((i, t))
    return found


def _observation(trajectory: Trajectory, turn: int) -> str:
    if turn == 0:
        return _text(trajectory.opening[-1]) if trajectory.opening else ""
    before = trajectory.turns[turn - 1]
    return before.error or (_text(before.messages[-1]) if before.messages else "")


def _text(message: Message) -> str:
    return f"{message.role.value}: {message.content or ''}"
