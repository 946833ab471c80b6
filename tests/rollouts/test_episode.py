"""The loop: who speaks when, how steps count, and that whatever breaks ends as data."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from players import CounterWorld, ScriptAgent, ScriptUser, make_spec, make_task

from tau2_exp.codec import decode, encode
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.types import (
    GREETING,
    ContextFull,
    FaultError,
    FaultSource,
    Message,
    Role,
    StopReason,
    ToolCall,
    Trajectory,
)

ADD = ToolCall("add", {})
USER_ADD = ToolCall("add", {}, Role.USER)


def play(agent: ScriptAgent, user: ScriptUser, limits: Limits | None = None, history=()) -> Trajectory:
    task = make_task(history=history)
    return asyncio.run(run_episode(agent, user, CounterWorld(task), make_spec(task=task), limits or Limits()))


def test_a_solved_episode_tells_its_turns_and_what_each_changed():
    agent = ScriptAgent(ADD, "Once more?", ADD)
    trajectory = play(agent, ScriptUser("Count, please.", "Yes."))
    assert trajectory.stop is StopReason.AGENT_STOP and trajectory.outcome == 1.0
    assert trajectory.opening == (GREETING, Message(Role.USER, "Count, please."))
    assert [turn.text for turn in trajectory.turns] == ["add", "Once more?", "add", "done"]
    assert [turn.parts.db_progress for turn in trajectory.turns] == [0.5, 0.5, 1.0, 1.0]
    assert trajectory.initial.db_progress == 0.0
    assert [turn.changes for turn in trajectory.turns] == [{"agent.count": 1}, {}, {"agent.count": 2}, {}]
    assert [m.content for m in agent.heard] == ["Count, please.", "1", "Yes.", "2"]
    # user; call, result; text, user; call, result; done
    assert trajectory.steps == 8 and agent.closed == 1


def test_the_user_works_with_its_own_tools_before_it_answers_and_the_agent_does_not_see_them():
    agent, user = ScriptAgent("Please add twice."), ScriptUser("Hi.", USER_ADD, USER_ADD, "Both done.")
    trajectory = play(agent, user)
    assert trajectory.outcome == 1.0
    assert [m.content for m in agent.heard] == ["Hi.", "Both done."]
    assert [m.content for m in user.heard][-2:] == ["1", "2"]
    assert len(trajectory.turns[0].messages) == 6


def test_the_user_ends_the_episode():
    assert play(ScriptAgent("Hello?"), ScriptUser("Hi.")).stop is StopReason.USER_STOP


@pytest.mark.parametrize(
    ("agent", "user", "limits", "stop"),
    [
        (ScriptAgent(*["again"] * 9), ScriptUser(*["no"] * 9), Limits(max_steps=5), StopReason.MAX_STEPS),
        (ScriptAgent(*[ToolCall("nope", {})] * 9), ScriptUser("Hi."), Limits(max_errors=3), StopReason.TOO_MANY_ERRORS),
        (ScriptAgent(None, "sorry", None, None), ScriptUser("Hi.", "What?"), Limits(), StopReason.UNPARSABLE),
        (ScriptAgent(ContextFull()), ScriptUser("Hi."), Limits(), StopReason.CONTEXT_FULL),
    ],
)
def test_premature_endings_score_nothing_and_are_the_agents(agent, user, limits, stop):
    trajectory = play(agent, user, limits)
    assert trajectory.stop is stop and trajectory.scored and trajectory.outcome == 0.0


def test_limits_wait_for_the_environments_answer_and_outrank_a_natural_end_as_in_tau2_bench():
    # user, call, [limit of 2 reached: but the environment speaks next], result
    trajectory = play(ScriptAgent(ADD, ADD), ScriptUser("Hi."), Limits(max_steps=2))
    assert trajectory.steps == 3 and trajectory.stop is StopReason.MAX_STEPS
    trajectory = play(ScriptAgent(), ScriptUser("###STOP###"), Limits(max_steps=1))
    assert trajectory.stop is StopReason.MAX_STEPS


def test_an_unparsable_turn_is_answered_with_the_reason():
    agent = ScriptAgent(None, ADD)
    trajectory = play(agent, ScriptUser("Hi."))
    assert agent.heard[1] == Message(Role.TOOL, "Error: no tool call", requestor=Role.ASSISTANT, error=True)
    assert trajectory.turns[0].error == "no tool call" and trajectory.turns[0].messages == ()


@pytest.mark.parametrize(
    "bad",
    [
        ToolCall("add", {"n": float("nan")}),
        ToolCall("add", {"n": {"deep": json.loads("[" * 40 + "]" * 40)}}),
        ToolCall("half a pair: \ud83d", {}),
        ToolCall("add", {"n": object()}),
        "half a pair: \ud83d",
    ],
)
def test_nothing_that_cannot_be_written_and_read_again_enters_a_trajectory(bad):
    """Also from an agent or a user of somebody's own."""
    trajectory = play(ScriptAgent(bad, ADD), ScriptUser("Hi."))
    assert trajectory.turns[0].error and not trajectory.turns[0].messages
    assert decode(Trajectory, json.loads(json.dumps(encode(trajectory), allow_nan=False))) == trajectory
    line = replace(bad, requestor=Role.USER) if isinstance(bad, ToolCall) else bad
    trajectory = play(ScriptAgent("Hi"), ScriptUser("Hi.", line))
    assert trajectory.fault and trajectory.fault.source is FaultSource.USER


@pytest.mark.parametrize(
    ("agent", "user", "source"),
    [
        (ScriptAgent(), ScriptUser(ValueError("simulator")), FaultSource.USER),
        (ScriptAgent("Hi"), ScriptUser("Hi.", FaultError(FaultSource.USER, "429")), FaultSource.USER),
        (ScriptAgent(OSError("no server")), ScriptUser("Hi."), FaultSource.ENGINE),
        (ScriptAgent(ToolCall("explode", {})), ScriptUser("Hi."), FaultSource.ENVIRONMENT),
        (ScriptAgent(FaultError(FaultSource.AGENT, "its own")), ScriptUser("Hi."), FaultSource.AGENT),
    ],
)
def test_what_breaks_becomes_a_typed_fault_without_a_verdict(agent, user, source):
    trajectory = play(agent, user)
    assert trajectory.stop is StopReason.FAULT and trajectory.verdict is None
    assert trajectory.fault and trajectory.fault.source is source
    assert trajectory.scored is (source is FaultSource.AGENT)
    assert agent.closed == 1


def test_an_episode_that_begins_with_a_history_goes_on_from_it():
    history = (Message(Role.USER, "Add one."), Message(Role.ASSISTANT, tool_calls=(ADD,)))
    agent = ScriptAgent(ADD)
    trajectory = play(agent, ScriptUser(), history=history)
    assert trajectory.outcome == 1.0
    assert [m.content for m in agent.heard] == ["Add one.", None, "1", "2"]
