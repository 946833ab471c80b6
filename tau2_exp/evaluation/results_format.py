"""τ²-bench's own results format (its `Results`, JSON) ↔ trajectories. Pure: data in, data out.

What the format has no place for (an exact stop reason, token counts) goes where it allows anything: `reward_info.info`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.domains.tasks import DEFAULT_BASIS, read_message
from tau2_exp.evaluation.records import Judgement, Simulation, read_record
from tau2_exp.types import Fault, FaultSource, Message, Role, StopReason, Trajectory, Turn, Usage, Verdict

OURS = "tau2_exp"  # the key of what is ours
_SAID = {  # stop reasons that τ²-bench has no word for
    StopReason.UNPARSABLE: "agent_error",
    StopReason.CONTEXT_FULL: "agent_error",
    StopReason.FAULT: "agent_error",  # only the agent's own fault is written
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
    fault: Fault | None = None
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


def is_solo(messages: Sequence[Message]) -> bool:
    """Whether only the agent acts: with a user, an episode does not end by itself before the user's first message."""
    return not any(message.role is Role.USER for message in messages)


# ---------------------------------------------------------------- out


def to_simulation(trajectory: Trajectory, task: dict[str, Any], start: str, end: str) -> dict[str, Any]:
    """One `SimulationRun`. `task` is τ²-bench's own record of the task; times are ISO 8601.

    Raises ValueError for a faulted episode: τ²-bench would count it as the agent's failure.
    """
    if not trajectory.scored:
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
        "reward_info": _reward_info(trajectory, trajectory.verdict or Verdict(0.0), task.get("evaluation_criteria")),
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
    """One `SimulationRun`, τ²-bench's or ours. Raises ValueError in one line, naming what is missing or wrong."""
    simulation = read_record(Simulation, record)
    messages = [_read_message(message, place) for place, message in enumerate(simulation.messages)]
    beside = _beside(simulation)
    opening, turns = _turns(messages, beside.stop)
    return Trajectory(
        task=simulation.task_id,
        domain=domain,
        sample=simulation.trial or 0,
        seed=simulation.seed or 0,
        opening=opening,
        turns=turns,
        seconds=simulation.duration or 0.0,
        **{f.name: getattr(beside, f.name) for f in fields(Beside)},
    )


def _read_message(record: dict[str, Any], place: int) -> Message:
    try:
        return read_message(record)
    except KeyError as problem:
        raise ValueError(f"messages.{place}: no {problem}") from None
    except (ValueError, TypeError, AttributeError) as problem:
        raise ValueError(f"messages.{place}: {problem}") from None


def _beside(simulation: Simulation) -> Beside:
    judged = simulation.reward_info
    if judged and isinstance(judged.info, dict) and OURS in judged.info:
        return decode(Beside, judged.info[OURS])
    stop = read_stop(simulation.termination_reason)
    return Beside(
        stop,
        read_verdict(judged, stop),
        _fault(simulation),
        steps=len(simulation.messages),
        tool_errors=sum(bool(message.get("error")) for message in simulation.messages),
        user_usage=_usage(simulation, "user", simulation.user_cost),
        policy_usage=_usage(simulation, "assistant", simulation.agent_cost),
    )


def _fault(simulation: Simulation) -> Fault | None:
    word = simulation.termination_reason
    if word not in _FAULTS:
        return None
    told = (simulation.info or {}).get("error")
    return Fault(_FAULTS[word], f"{word}: {told}" if told else word)


def read_verdict(judged: Judgement | None, stop: StopReason) -> Verdict | None:
    """What τ²-bench judged; a premature ending scores 0, and a natural one that nobody evaluated has no verdict."""
    if stop is StopReason.FAULT:
        return None
    if judged is None or judged.reward is None:
        return None if stop.natural else Verdict(0.0)
    return Verdict(
        reward=judged.reward,
        breakdown=judged.reward_breakdown or {},
        db_match=judged.db_check.db_match if judged.db_check else None,
        env_assertions=tuple(check.met for check in judged.env_assertions or ()),
        action_checks=tuple(check.action_match for check in judged.action_checks or ()),
        communicate_checks=tuple(check.met for check in judged.communicate_checks or ()),
    )


def _usage(simulation: Simulation, role: str, dollars: float | None) -> Usage:
    usages = [message.get("usage") for message in simulation.messages if message["role"] == role]
    prompt, completion = (
        sum(usage[key] for usage in usages if isinstance(usage, dict) and isinstance(usage.get(key), int))
        for key in ("prompt_tokens", "completion_tokens")
    )
    return Usage(prompt, completion, dollars)


def _turns(messages: Sequence[Message], stop: StopReason) -> tuple[tuple[Message, ...], tuple[Turn, ...]]:
    """The opening, and a turn for each message of the agent behind it.

    The agent's first message is its greeting, unless it calls a tool: a solo agent begins with its work.
    """
    starts = [
        place
        for place, message in enumerate(messages)
        if message.role is Role.ASSISTANT and (place or message.tool_calls)
    ]
    ends = [*starts[1:], len(messages)]
    turns = [tuple(messages[start:end]) for start, end in zip(starts, ends, strict=False)]
    opening = tuple(messages[: starts[0]] if starts else messages)
    last = len(turns) - 1
    return opening, tuple(
        Turn(turn[0].content or "", turn, done=stop is StopReason.AGENT_STOP and place == last)
        for place, turn in enumerate(turns)
    )
