"""Records survive the way to disk and back, and a bad one names its field."""

from __future__ import annotations

import json

import pytest
from dialogues import make_trajectories, make_trajectory, spans
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp import codec
from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.types import Message, Parts, Role, ToolCall, Trajectory, Turn


@given(trajectory=make_trajectories(st.none() | spans()))
def test_a_trajectory_survives_json(trajectory: Trajectory):
    text = json.dumps(codec.encode(trajectory))
    assert codec.decode(Trajectory, json.loads(text)) == trajectory


def test_defaults_are_left_out():
    assert codec.encode(Message(Role.USER, "Hi")) == {"role": "user", "content": "Hi"}
    assert codec.encode(Parts(db=0.0)) == {"db": 0.0}


def test_settings_survive_too():
    config = RewardConfig(kind=RewardKind.turn_level, alpha=0.1)
    assert codec.decode(RewardConfig, json.loads(json.dumps(codec.encode(config)))) == config


def test_a_whole_number_may_stand_for_a_fraction():
    parts = codec.decode(Parts, {"db": 1})
    assert parts.db == 1.0 and isinstance(parts.db, float)


BASE = codec.encode(make_trajectory(Turn("hi", (Message(Role.ASSISTANT, tool_calls=(ToolCall("look", {}),)),))))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stop": "bored"}, "Trajectory.stop: 'bored' is not one of agent_stop"),
        ({"sample": "1"}, "Trajectory.sample: expected int, got '1'"),
        ({"sample": True}, "Trajectory.sample: expected int, got True"),
        ({"colour": 1}, "Trajectory: unknown field 'colour'; known: task"),
        ({"turns": {}}, "Trajectory.turns: expected a list, got dict"),
        ({"turns": [{"text": "hi"}]}, "messages"),
        ({"turns": [{"text": "hi", "messages": [{"role": 3}]}]}, "Trajectory.turns[0].messages[0].role: 3"),
        ({"initial": 3}, "Trajectory.initial: expected an object, got int"),
        ({"initial": {"db": "all"}}, "Trajectory.initial.db: expected float, got 'all'"),
    ],
)
def test_a_bad_record_names_its_field(change: dict, complaint: str):
    with pytest.raises(ValueError) as caught:
        codec.decode(Trajectory, BASE | change)
    assert complaint in str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="task"):
        codec.decode(Trajectory, {key: value for key, value in BASE.items() if key != "task"})


def test_something_else_is_no_record():
    with pytest.raises(ValueError, match="Trajectory: expected an object, got list"):
        codec.decode(Trajectory, [])
