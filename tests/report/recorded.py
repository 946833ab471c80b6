"""Small runs with episodes in them, recorded as stages record theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tau2_exp.codec import encode
from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Config
from tau2_exp.jsonl import JsonlWriter
from tau2_exp.report.trials import Found
from tau2_exp.runs.run import Run
from tau2_exp.types import (
    GREETING,
    Fault,
    FaultSource,
    Message,
    Parts,
    Role,
    StopReason,
    TokenSpan,
    ToolCall,
    Trajectory,
    Turn,
    Verdict,
)

SAID = "Please check the status bar."


def turn(action: float, text: str = SAID, call: ToolCall | None = None) -> Turn:
    """One message of the agent, or one call and its result; so many of the reference actions are then done."""
    messages: tuple[Message, ...] = (Message(Role.ASSISTANT, text), Message(Role.USER, "It is empty."))
    if call:
        result = Message(Role.TOOL, text, requestor=Role.ASSISTANT)
        messages = (Message(Role.ASSISTANT, tool_calls=(call,)), result)
    changes = {"agent.lines.L1.roaming_enabled": True} if call else {}
    span = TokenSpan((1, 2), (3,), (-0.5,))
    return Turn(text, messages, Parts(action=action, env_assertion=0.0), tokens=span, changes=changes)


def episode(
    task: str, sample: int, actions: Sequence[float], outcome: float = 0.0, fault: bool = False, **settings: str
) -> Trajectory:
    """An episode with one turn for each of `actions`, the share of reference actions done after it."""
    solved = outcome == 1.0
    return Trajectory(
        task=task,
        domain="telecom",
        sample=sample,
        seed=2**62 + sample,
        opening=(GREETING, Message(Role.USER, "My phone is broken.")),
        turns=tuple(turn(action, **settings) for action in actions),
        stop=StopReason.FAULT if fault else StopReason.USER_STOP,
        verdict=None if fault else Verdict(outcome, env_assertions=(solved,), action_checks=(solved,)),
        initial=Parts(action=0.0, env_assertion=0.0),
        fault=Fault(FaultSource.USER, "the simulator timed out") if fault else None,
        user="scripted",
    )


def record(
    folder: Path,
    overrides: Sequence[str],
    files: Mapping[str, Sequence[Trajectory]],
    steps: Sequence[Mapping[str, Any]] = (),  # the metrics of each
    parent: Run | None = None,
) -> Run:
    run = Run.create(compose(*overrides), folder.name.ljust(64, "0"), folder, parent)
    for name, trajectories in files.items():
        with run.write_trajectories(name) as lines:
            for trajectory in trajectories:
                lines.write(trajectory)
    for step, metrics in enumerate(steps, 1):
        run.log(dict(metrics), step)
    run.close()
    return run


@cache
def compose(*overrides: str) -> Config:
    return compose_config(list(overrides))


def record_many(folder: Path, count: int) -> Run:
    """An evaluation of so many short episodes, a hundred of each task, every other one solved."""
    run = record(folder, ["stage=eval"], {})
    either = [encode(episode("", 0, [0.5], outcome)) for outcome in (0.0, 1.0)]
    with JsonlWriter(folder / "trajectories/test.jsonl") as lines:
        for i in range(count):
            lines.write(either[i % 2] | {"task": f"task {i // 100}", "sample": i % 100})
    return run


def found(run: Run, arm: str = "") -> Found:
    return Found(run, run.stage, arm, {}, "0")
