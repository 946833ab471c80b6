"""τ²-bench's own results format (its `Results`, JSON) ↔ trajectories. Pure: data in, data out.

What the format has no place for (an exact stop reason, token counts) goes where it allows anything: `reward_info.info`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.domains.tasks import DEFAULT_BASIS, read_message
from tau2_exp.types import Fault, FaultSource, Message, Role, StopReason, Trajectory, Turn, Usage, Verdict

OURS = "tau2_exp"  # the key of what is ours
_SAID = {  # stop reasons that τ²-bench has no word for
    StopReason.UNPARSABLE: "agent_error",
    StopReason.CONTEXT_FULL: "agent_error",
}
_READ = {  # the words of this revision and of later ones
    "agent_error": StopReason.UNPARSABLE,
    "context_window_exceeded": StopReason.CONTEXT_FULL,
    "timeout": StopReason.MAX_STEPS,
}
_FAULTS = {
    "user_error": FaultSource.USER,
    "infrastructure_error": FaultSource.ENGINE,
    "unexpected_error": FaultSource.ENVIRONMENT,
}


@dataclass(frozen=True, slots=True)
class Beside:
    """What of a trajectory the format itself does not hold, or holds in other words."""

    stop: StopReason
    verdict: Verdict | None
    steps: int = 0
    tool_errors: int = 0
    attempts: int = 1
    user: str = ""
    user_usage: Usage = field(default_factory=Usage)
    policy_usage: Usage = field(default_factory=Usage)


def read_stop(termination: str) -> StopReason:
    """Why an episode ended, by τ²-bench's word or by ours. Raises ValueError for any other."""
    if termination in _FAULTS:
        return StopReason.FAULT
    try:
        return _READ.get(termination) or StopReason(termination)
    except ValueError:
        valid = ", ".join([*(stop.value for stop in StopReason), *_READ, *_FAULTS])
        raise ValueError(f"termination: {termination!r} is not one of {valid}") from None


# ---------------------------------------------------------------- out


def to_simulation(trajectory: Trajectory, task: dict[str, Any], start: str, end: str) -> dict[str, Any]:
    """One `SimulationRun`. `task` is τ²-bench's own record of the task; times are ISO 8601.

    Raises ValueError for a faulted episode: τ²-bench would count it as the agent's failure.
    """
    if not trajectory.scored or trajectory.verdict is None:
        raise ValueError(f"{trajectory.key}, sample {trajectory.sample}: ended in a fault and has no score")
    return {
        "id": f"{trajectory.domain}-{trajectory.task}-{trajectory.sample}-{trajectory.seed}",
        "task_id": trajectory.task,
        "timestamp": end,
        "start_time": start,
        "end_time": end,
        "duration": trajectory.seconds,
        "termination_reason": _SAID.get(trajectory.stop, trajectory.stop.value),
        "agent_cost": trajectory.policy_usage.dollars,
        "user_cost": trajectory.user_usage.dollars,
        "reward_info": _reward_info(trajectory, trajectory.verdict, task.get("evaluation_criteria")),
        "messages": [_message(message, place) for place, message in enumerate(trajectory.messages)],
        "trial": trajectory.sample,
        "seed": trajectory.seed,
    }


def _message(message: Message, place: int) -> dict[str, Any]:
    said = {"role": message.role.value, "content": message.content, "turn_idx": place, "timestamp": None}
    if message.role is Role.TOOL:
        requestor = (message.requestor or Role.ASSISTANT).value
        return {**said, "id": message.call_id, "requestor": requestor, "error": message.error}
    calls = [
        {"id": call.id, "name": call.name, "arguments": call.arguments, "requestor": call.requestor.value}
        for call in message.tool_calls
    ]
    return {**said, "tool_calls": calls or None}


def _reward_info(trajectory: Trajectory, verdict: Verdict, criteria: dict[str, Any] | None) -> dict[str, Any]:
    ours = Beside(**{f.name: getattr(trajectory, f.name) for f in fields(Beside)})
    info: dict[str, Any] = {"reward": verdict.reward, "info": {OURS: encode(ours)}, "reward_basis": None}
    if not trajectory.stop.natural or criteria is None:
        return info
    return {
        **info,
        "db_check": _db_check(verdict),
        "env_assertions": _checks(criteria.get("env_assertions"), verdict.env_assertions, "env_assertion", "met"),
        "action_checks": _checks(criteria.get("actions"), verdict.action_checks, "action", "action_match"),
        "communicate_checks": _told(criteria.get("communicate_info"), verdict.communicate_checks),
        "reward_basis": list(criteria.get("reward_basis") or DEFAULT_BASIS),
        "reward_breakdown": dict(verdict.breakdown),
    }


def _db_check(verdict: Verdict) -> dict[str, Any] | None:
    if verdict.db_match is None:
        return None
    return {"db_match": verdict.db_match, "db_reward": float(verdict.db_match)}


def _checks(records: list[Any] | None, holds: Sequence[bool], what: str, held: str) -> list[dict[str, Any]] | None:
    """Each check beside what was checked; none where an evaluation that raised has none."""
    if not records and what == "env_assertion":
        return []
    if not records or len(records) != len(holds):
        return None
    reward = "action_reward" if what == "action" else "reward"
    return [{what: record, held: ok, reward: float(ok)} for record, ok in zip(records, holds, strict=True)]


def _told(infos: list[str] | None, holds: Sequence[bool]) -> list[dict[str, Any]] | None:
    if not infos or len(infos) != len(holds):
        return None
    return [{"info": info, "met": ok, "justification": ""} for info, ok in zip(infos, holds, strict=True)]


# ---------------------------------------------------------------- in


def from_simulation(record: dict[str, Any], domain: str) -> Trajectory:
    """One `SimulationRun`, τ²-bench's or ours. Raises ValueError or KeyError, naming what is missing or wrong."""
    messages = [read_message(message) for message in record["messages"] or ()]
    beside = _beside(record)
    word = record["termination_reason"]
    opening, turns = _turns(messages, beside.stop)
    return Trajectory(
        task=str(record["task_id"]),
        domain=domain,
        sample=record.get("trial") or 0,
        seed=record.get("seed") or 0,
        opening=opening,
        turns=turns,
        fault=Fault(_FAULTS[word], word) if word in _FAULTS else None,
        seconds=float(record.get("duration") or 0.0),
        **{f.name: getattr(beside, f.name) for f in fields(Beside)},
    )


def _beside(record: dict[str, Any]) -> Beside:
    judged = record.get("reward_info")
    info = judged.get("info") if judged else None
    if isinstance(info, dict) and OURS in info:
        return decode(Beside, info[OURS])
    stop = read_stop(record["termination_reason"])
    return Beside(
        stop,
        _verdict(judged) if judged and stop is not StopReason.FAULT else None,
        steps=len(record["messages"] or ()),
        tool_errors=sum(bool(message.get("error")) for message in record["messages"] or ()),
        user_usage=_usage(record, "user"),
        policy_usage=_usage(record, "assistant"),
    )


def _verdict(judged: dict[str, Any]) -> Verdict:
    match = judged.get("db_check")
    return Verdict(
        reward=float(judged["reward"]),
        breakdown={name: float(value) for name, value in (judged.get("reward_breakdown") or {}).items()},
        db_match=match["db_match"] if match else None,
        env_assertions=tuple(check["met"] for check in judged.get("env_assertions") or ()),
        action_checks=tuple(check["action_match"] for check in judged.get("action_checks") or ()),
        communicate_checks=tuple(check["met"] for check in judged.get("communicate_checks") or ()),
    )


def _usage(record: dict[str, Any], role: str) -> Usage:
    usages = [m["usage"] for m in record["messages"] or () if m["role"] == role and m.get("usage")]
    dollars = record["agent_cost" if role == "assistant" else "user_cost"]
    return Usage(
        sum(usage.get("prompt_tokens") or 0 for usage in usages),
        sum(usage.get("completion_tokens") or 0 for usage in usages),
        None if dollars is None else float(dollars),
    )


def _turns(messages: Sequence[Message], stop: StopReason) -> tuple[tuple[Message, ...], tuple[Turn, ...]]:
    """The opening, and a turn for each message of the agent behind it (the first message is its greeting)."""
    starts = [place for place, message in enumerate(messages) if place and message.role is Role.ASSISTANT]
    ends = [*starts[1:], len(messages)]
    turns = [tuple(messages[start:end]) for start, end in zip(starts, ends, strict=False)]
    opening = tuple(messages[: starts[0]] if starts else messages)
    last = len(turns) - 1
    return opening, tuple(
        Turn(turn[0].content or "", turn, done=stop is StopReason.AGENT_STOP and place == last)
        for place, turn in enumerate(turns)
    )
