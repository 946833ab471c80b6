"""`replay` rescores recorded episodes, agrees with τ²-bench on all of them, and says which lines are none."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tau2_exp.codec import encode
from tau2_exp.config import ConfigError
from tau2_exp.domains import load_domain
from tau2_exp.domains.world import same_result, same_text
from tau2_exp.evaluation.replay import register
from tau2_exp.types import Fault, FaultSource, Message, Role, StopReason, ToolCall, Trajectory, Turn, Verdict

PARITY = Path(__file__).parents[3] / "shared" / "parity"
Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Runs the command on records; returns its exit status, its last line, and what went to stderr."""

    def run(*records: Any, out: Path | None = None) -> tuple[int, str, str]:
        file = tmp_path / "episodes.jsonl"
        file.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))
        parser = argparse.ArgumentParser()
        register(parser.add_subparsers(required=True))
        args = parser.parse_args(["replay", str(file), *(["--out", str(out)] if out else [])])
        status = args.run(args)
        said = capsys.readouterr()
        return status, said.out.splitlines()[-1], said.err

    return run


def record(domain: str = "retail", many: int | None = None, **changed: Any) -> dict[str, Any]:
    """A gold episode as it would be recorded, with the verdict of our world."""
    loaded = load_domain(domain)
    task = next(task for task in loaded.tasks("test") if len(task.criteria.actions or ()) > 2)
    world = loaded.world(task)
    messages: list[dict[str, Any]] = [{"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "Hello."}]
    for action in task.criteria.actions[:many]:
        answer = world.call(ToolCall(action.name, action.arguments, action.requestor))
        side = action.requestor.value
        messages += [
            {"role": side, "tool_call": {"name": action.name, "arguments": action.arguments}},
            {"role": "tool", "requestor": side, "content": answer.content, "error": answer.error},
        ]
    messages.append({"role": "assistant", "content": " ".join(task.criteria.communicate or ("Done.",))})
    verdict = {"reward": 1.0 if many is None else 0.0}
    hashes = {"agent_db_hash": world.db_hash(Role.ASSISTANT), "user_db_hash": world.db_hash(Role.USER)}
    return {"domain": domain, "task_id": task.id, "messages": messages, **hashes, "verdict": verdict, **changed}


@pytest.mark.parametrize(("name", "count"), [("airline", 150), ("retail", 342), ("telecom", 342)])
def test_agrees_on_every_recorded_episode(replay: Replay, tmp_path: Path, name: str, count: int) -> None:
    path = PARITY / f"episodes_{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no recorded parity data: {path.name} is not in ../shared/parity")
    out = tmp_path / "out.jsonl"
    assert replay(path.read_text(), out=out)[:2] == (0, f"{count} of {count} agree")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == count
    assert not any(line["texts"] or line["differences"] for line in lines), "every result text is τ²-bench's"


@pytest.mark.parametrize("name", ["airline", "retail", "telecom"])
def test_mixed_domains_and_endings(replay: Replay, name: str) -> None:
    whole, part = record(name), record(name, many=0)
    stopped = {**record(name), "termination": "max_steps", "verdict": {"reward": 0.0, "breakdown": None}}
    assert replay(whole, part, stopped)[:2] == (0, "3 of 3 agree")


@pytest.mark.parametrize("ending", ["max_steps", "too_many_errors", "agent_error", "user_error"])
def test_premature_endings_are_not_evaluated(replay: Replay, ending: str) -> None:
    episode = record(termination=ending, verdict={"reward": 0.0})
    episode["messages"][3]["content"] = "tampered"
    assert replay(episode)[:2] == (0, "1 of 1 agree")
    assert replay({**episode, "termination": "user_stop"})[0] == 1


def test_a_wrong_verdict_or_hash_is_a_disagreement(replay: Replay) -> None:
    status, last, _ = replay(record(), record(verdict={"reward": 0.0}), record(agent_db_hash="0" * 64))
    assert (status, last) == (1, "1 of 3 agree")


def test_a_hash_that_is_no_text_is_a_bad_line_and_the_next_is_read(replay: Replay) -> None:
    status, last, errors = replay(record(agent_db_hash=5), record())
    assert status == 1 and "agent_db_hash: expected text, got int" in errors + last


@pytest.mark.parametrize(("link", "agrees"), [("pydantic.dev/1.99/v/int_type", True), ("pydantic.dev/2.1/v/x", False)])
def test_an_error_reads_the_same_whichever_pydantic_worded_it(link: str, agrees: bool) -> None:
    said = "Error: 1 validation error\n    For further information visit https://errors.pydantic.dev/2.14/v/int_type"
    recorded = said.replace("pydantic.dev/2.14/v/int_type", link)
    assert same_text(said, recorded) == same_result(said, recorded) == agrees


def tampered(change: Callable[[list[dict[str, Any]]], Any]) -> dict[str, Any]:
    episode = copy.deepcopy(record(verdict={"raises": "ValueError"}))
    change(episode["messages"])
    return episode


@pytest.mark.parametrize(
    "change",
    [
        lambda messages: messages[3].update(content="something else"),
        lambda messages: messages[3].update(content=None),
        lambda messages: messages.pop(3),
        lambda messages: messages.pop(2),
        lambda messages: messages.insert(3, {"role": "user", "content": "Are you there?"}),
        lambda messages: messages.append({"role": "user", "tool_call": {"name": "x", "arguments": {}}}),
    ],
)
def test_what_makes_the_evaluation_raise(replay: Replay, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    assert replay(tampered(change))[:2] == (0, "1 of 1 agree")


def test_results_are_compared_as_json(replay: Replay) -> None:
    """τ²-bench reads both texts as JSON before it compares them; the text that differs is reported."""
    episode = record()
    message = next(m for m in episode["messages"] if m["role"] == "tool" and m["content"].startswith("{"))
    message["content"] = json.dumps(json.loads(message["content"]), indent=1)
    status, last, said = replay(episode)
    assert (status, last) == (0, "1 of 1 agree")
    assert "returned" in said


def test_several_calls_in_one_message_and_users_without_tools(replay: Replay) -> None:
    call = {"name": "calculate", "arguments": {"expression": "1+1"}}
    messages = [
        {"role": "assistant", "content": "One moment.", "tool_calls": [call, {**call, "id": "b"}]},
        {"role": "tool", "requestor": "assistant", "content": "2.0"},
        {"role": "tool", "requestor": "assistant", "content": "2.0", "id": "b"},
        {"role": "user", "tool_call": call},
        {"role": "tool", "requestor": "user", "content": "Error: User tools not available", "error": True},
        {"role": "assistant", "tool_call": {"name": "nope", "arguments": {}}},
        {"role": "tool", "content": "Error: Tool 'nope' not found.", "error": True},
    ]
    domain = load_domain("airline")
    task = next(task for task in domain.tasks("base") if domain.gold(task).changes)
    episode = {"domain": "airline", "task_id": task.id, "messages": messages, "verdict": {"reward": 0.0}}
    assert replay(episode)[:2] == (0, "1 of 1 agree")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json\n", "not JSON"),
        ("[1]\n", "expected a JSON object"),
        ({"task_id": "0", "messages": []}, "missing field 'domain'"),
        ({"domain": "airline", "task_id": "0"}, "missing field 'messages'"),
        ({"domain": "banking", "task_id": "0", "messages": []}, "no domain 'banking'"),
        ({"domain": "airline", "task_id": "999", "messages": []}, "airline has no task '999'"),
        ({"domain": "airline", "task_id": "0", "messages": [], "termination": "bored"}, "'bored' is not one of"),
        ({"domain": "airline", "task_id": "0", "messages": [{"role": "judge"}]}, "messages[0]: 'judge'"),
        ({"domain": "airline", "task_id": "0", "messages": ["hi"]}, "messages[0]: "),
        (
            {
                "domain": "airline",
                "task_id": "0",
                "messages": [{"role": "user", "tool_call": {"name": "x", "arguments": "{}"}}],
            },
            "messages[0]: arguments of x: expected an object, got str",
        ),
        ({"turns": [], "task": "0"}, "Trajectory"),
    ],
)
def test_bad_lines_are_named_and_the_rest_goes_on(replay: Replay, line: Any, reason: str) -> None:
    status, last, said = replay(record(), line)
    assert (status, last) == (1, "1 of 2 agree")
    assert "episodes.jsonl:2: " in said
    assert reason in said


def trajectory(**changed: Any) -> Trajectory:
    domain = load_domain("telecom")
    task = domain.tasks("test")[0]
    world = domain.world(task)
    turns = []
    for action in task.criteria.actions:
        call = ToolCall(action.name, action.arguments, action.requestor)
        turns.append(Turn(text="", messages=(Message(action.requestor, tool_calls=(call,)), world.call(call))))
    messages = tuple(message for turn in turns for message in turn.messages)
    verdict = world.verdict(messages, StopReason.USER_STOP)
    whole = Trajectory(task.id, "telecom", 0, 0, (), tuple(turns), StopReason.USER_STOP, verdict)
    return dataclasses.replace(whole, **changed)


def test_our_own_trajectories(replay: Replay) -> None:
    good = encode(trajectory())
    wrong = encode(trajectory(verdict=Verdict(reward=0.0)))
    faulty = encode(trajectory(stop=StopReason.FAULT, verdict=None, fault=Fault(FaultSource.USER, "gone")))
    assert replay(good)[:2] == (0, "1 of 1 agree")
    assert replay(good, wrong)[:2] == (1, "1 of 2 agree")
    assert replay(good, faulty)[:2] == (0, "1 of 1 agree")


RESULTS = {"info": {}, "tasks": [], "simulations": []}


@pytest.mark.parametrize(
    ("given", "content", "why"),
    [
        ("none.jsonl", None, "none.jsonl: no such file"),
        ("empty.jsonl", "\n", "empty.jsonl: holds no episodes"),
        ("results.json", json.dumps(RESULTS, indent=2), "results.json: is a results file of τ²-bench; python -m tau2_"),
        ("results.json", json.dumps(RESULTS), "python -m tau2_exp import results.json --name NAME"),
        ("run", None, "run: is a folder; give files: run/trajectories/test.jsonl"),
        ("run/trajectories", None, "run/trajectories: is a folder; give files of episodes"),
    ],
)
def test_what_holds_no_lines_of_episodes_is_refused_in_one_line(
    given: str, content: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run/trajectories").mkdir(parents=True)
    (tmp_path / "run/trajectories/test.jsonl").touch()
    if content:
        (tmp_path / given).write_text(content)
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["replay", given, "--provider", "inspect"])
    with pytest.raises(ConfigError) as refused:
        args.run(args)
    assert why in str(refused.value) and "\n" not in str(refused.value)


def test_help_shows_the_providers_as_they_are_given() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    register(commands)
    told = " ".join(commands.choices["replay"].format_help().split())
    assert "--provider PROVIDER auto, sierra, inspect, or module:name" in told
