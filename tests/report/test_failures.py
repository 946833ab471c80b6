"""Each failure mode on an episode that was crafted to show it, and on one that just does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import episode, record

from tau2_exp.report.failures import Failure, Failures, Tools, diagnose, failures, tools_of
from tau2_exp.report.trials import Evaluation, Subject, Trial
from tau2_exp.types import (
    GREETING,
    Criteria,
    Fault,
    FaultSource,
    GoldAction,
    Message,
    Parts,
    Role,
    StopReason,
    ToolCall,
    Trajectory,
    Turn,
    Verdict,
)

TOOLS = Tools(
    frozenset({"refuel_data", "enable_roaming", "get_line"}), frozenset({"toggle_roaming", "check_status_bar"})
)
PATH = Criteria(
    actions=(
        GoldAction("a", "refuel_data", {"line_id": "L1", "gb": 2.0}),
        GoldAction("b", "toggle_roaming", {}, Role.USER),
    ),
    assertions=None,
    communicate=None,
    basis=("ENV_ASSERTION",),
)
REFUEL = ToolCall("refuel_data", {"line_id": "L1", "gb": 2.0})
TOGGLE = ToolCall("toggle_roaming", {}, Role.USER)


def call(made: ToolCall, changes: bool = False, **parts: float) -> Turn:
    """A turn in which the agent calls a tool."""
    messages = (Message(Role.ASSISTANT, tool_calls=(made,)), Message(Role.TOOL, "ok", requestor=made.requestor))
    return Turn("", messages, Parts(**parts), changes={"agent.x": 1} if changes else {})


def say(text: str, does: ToolCall | None = None, **parts: float) -> Turn:
    """A turn in which the agent speaks, and the user perhaps does something before it answers."""
    messages = [Message(Role.ASSISTANT, text)]
    if does:
        messages += [Message(Role.USER, tool_calls=(does,)), Message(Role.TOOL, "ok", requestor=Role.USER)]
    return Turn(text, (*messages, Message(Role.USER, "Done.")), Parts(**parts), changes={"user.y": 1} if does else {})


def done(**parts: float) -> Turn:
    return Turn("bye", (Message(Role.ASSISTANT, "Goodbye."),), Parts(**parts), done=True)


def play(turns: Sequence[Turn], outcome: float = 0.0, **more: Any) -> Trajectory:
    stop = StopReason.AGENT_STOP if turns and turns[-1].done else StopReason.USER_STOP
    settings: dict[str, Any] = {"stop": stop, "verdict": Verdict(outcome)} | more
    return Trajectory("t", "telecom", 0, 0, (GREETING,), tuple(turns), **settings)


ALL_DONE = [call(REFUEL, changes=True), say("Please toggle roaming.", TOGGLE)]

CASES = {
    Failure.HALLUCINATED_TOOL: ([*ALL_DONE, call(ToolCall("reboot_tower", {}))], [*ALL_DONE, call(REFUEL)]),
    Failure.USERS_TOOL: (
        [*ALL_DONE, call(ToolCall("check_status_bar", {}))],
        [*ALL_DONE, say("Please check.", ToolCall("check_status_bar", {}, Role.USER))],
    ),
    Failure.WRONG_TOOL: (
        [*ALL_DONE, call(ToolCall("enable_roaming", {"line_id": "L1"}), changes=True)],
        [*ALL_DONE, call(ToolCall("get_line", {"line_id": "L1"}))],  # looking changes nothing
    ),
    Failure.WRONG_ARGUMENT: (
        [call(ToolCall("refuel_data", {"line_id": "L2", "gb": 2.0}), changes=True), ALL_DONE[1]],
        [call(ToolCall("refuel_data", {"line_id": "L2", "gb": 2.0})), *ALL_DONE],  # and then the right one
    ),
    Failure.MISSED_ACTION: (ALL_DONE[:1], ALL_DONE),
    Failure.EARLY_DONE: ([*ALL_DONE[:1], say("Is it well?"), done()], [*ALL_DONE, say("Is it well?"), done()]),
    Failure.NO_FOLLOW_UP: ([*ALL_DONE, done()], [*ALL_DONE, say("Does it work now?"), done()]),
    Failure.NOT_COMMUNICATED: ([say("Yes.", communicate=0.5)], [say("It is 327.", communicate=1.0)]),
}


@pytest.mark.parametrize("failure", CASES, ids=lambda failure: failure.value)
def test_a_mode_is_seen_where_it_is_and_nowhere_else(failure: Failure):
    shows, shows_not = (diagnose(play(turns), PATH, TOOLS) for turns in CASES[failure])
    assert failure in shows and failure not in shows_not


def test_a_solved_episode_shows_none():
    for turns, _ in CASES.values():
        assert diagnose(play(turns, outcome=1.0), PATH, TOOLS) == []


def test_where_the_task_asserts_something_that_is_when_it_is_done():
    """Another way than the reference path may be right: the assertions say so."""
    assert Failure.EARLY_DONE not in diagnose(play([call(REFUEL), done(env_assertion=1.0)]), PATH, TOOLS)
    assert Failure.EARLY_DONE in diagnose(play([*ALL_DONE, done(env_assertion=0.5)]), PATH, TOOLS)


def test_a_look_by_either_side_is_a_follow_up_and_an_instruction_alone_is_not():
    look = say("Please check the status bar.", ToolCall("check_status_bar", {}, Role.USER))
    looked = Turn(look.text, look.messages)  # nothing changed by looking
    assert Failure.NO_FOLLOW_UP not in diagnose(play([*ALL_DONE, looked, done()]), PATH, TOOLS)
    assert Failure.NO_FOLLOW_UP not in diagnose(play([*ALL_DONE, call(ToolCall("get_line", {})), done()]), PATH, TOOLS)
    assert Failure.NO_FOLLOW_UP in diagnose(play([*ALL_DONE, say("All is well."), done()]), PATH, TOOLS)
    assert Failure.NO_FOLLOW_UP not in diagnose(play(ALL_DONE), PATH, TOOLS), "it was not the agent who ended it"


def test_a_fault_is_told_by_its_source_and_the_episode_by_nothing_else():
    turns = CASES[Failure.HALLUCINATED_TOOL][0]
    for source, found in ((FaultSource.USER, [Failure.USER_FAULT]), (FaultSource.ENGINE, [])):
        lost = play(turns, stop=StopReason.FAULT, verdict=None, fault=Fault(source, "timeout"))
        assert diagnose(lost, PATH, TOOLS) == found


def test_without_the_task_or_its_tools_what_needs_them_is_not_looked_for():
    turns = [call(ToolCall("reboot_tower", {}), changes=True), done(communicate=0.0)]
    assert diagnose(play(turns), None, None) == [Failure.NO_FOLLOW_UP, Failure.NOT_COMMUNICATED]
    assert diagnose(play([]), None, None) == []


def test_counts_are_of_unsolved_episodes_and_of_all_for_faults():
    counts = Failures()
    lost = play([], stop=StopReason.FAULT, verdict=None, fault=Fault(FaultSource.USER, "timeout"))
    for trajectory in (play(ALL_DONE, outcome=1.0), play([call(ToolCall("reboot_tower", {}))]), lost):
        counts.add(trajectory, Path())
    assert (counts.episodes, counts.unsolved, counts.unscored) == (3, 1, 1)
    assert counts.modes[Failure.HALLUCINATED_TOOL] == 1 and counts.modes[Failure.USER_FAULT] == 1
    assert counts.stops == {"user_stop": 2, "fault": 1} and counts.unsolved_stops == {"user_stop": 1}


def test_a_file_over_domains_is_counted_by_domain_and_whole_and_read_once(tmp_path: Path):
    played = [episode("a", 0, [0.5], 1.0), replace(episode("b", 0, [0.5]), domain="mock"), episode("c", 0, [0.5])]
    run = record(tmp_path / "eval", ["stage=eval"], {"test": played})

    def counted(name: str) -> tuple[int, int]:
        found = failures(
            Trial("", "test", (), {}, {}), Subject("sft", "", {}, 0, None, {("0", 0): Evaluation(run, name, {})})
        )
        return found.episodes, found.unsolved

    assert counted("mock test") == (1, 1)
    (run.folder / "trajectories/test.jsonl").unlink()
    assert counted("telecom test") == (2, 1) and counted("test") == (3, 2) and counted("mock test") == (1, 1)


def test_a_file_without_episodes_is_named(tmp_path: Path):
    lost, kept = (record(tmp_path / name, ["stage=eval"], {"test": [episode("a", 0, [0.5])]}) for name in ("a", "b"))
    gone = lost.folder / "trajectories/test.jsonl"
    gone.unlink()
    evaluations = {(str(i), 0): Evaluation(run, "test", {}) for i, run in enumerate((lost, kept))}
    found = failures(Trial("", "test", (), {}, {}), Subject("sft", "", {}, 0, None, evaluations))
    assert found.missing == (gone,) and found.episodes == 1


def test_a_domains_tools_are_told_apart_by_owner():
    tools = tools_of("telecom")
    assert tools and "enable_roaming" in tools.agent and "toggle_roaming" in tools.user and not tools.agent & tools.user
    assert tools_of("nowhere") is None
