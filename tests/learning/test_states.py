"""Turns of equal states began in equal worlds, as far as an episode's record tells."""

from __future__ import annotations

from dialogues import make_trajectory

from tau2_exp.learning.states import world_states
from tau2_exp.types import Turn


def states(*changes: dict[str, object]) -> list[str]:
    return world_states(make_trajectory(*[Turn("", (), changes=one) for one in changes], Turn("", ())))


def test_a_change_that_is_taken_back_leaves_the_first_world() -> None:
    first, on, off = states({"phone.roaming": True}, {"phone.roaming": None})
    assert first == off != on


def test_a_field_that_is_gone_is_a_change_until_it_is_back() -> None:
    first, gone, back = states({"user.note": None}, {"user.note": None})
    assert first == back != gone


def test_the_order_of_changes_does_not_matter() -> None:
    assert states({"a": 1}, {"b": 2})[-1] == states({"b": 2}, {"a": 1})[-1]
