"""Recorded episodes, one a line: our trajectories, τ²-bench's simulations with their domain, and plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.domains.tasks import read_message
from tau2_exp.evaluation.results_file import load_json
from tau2_exp.evaluation.results_format import from_simulation, is_solo, read_stop
from tau2_exp.types import SOLO, Message, Role, StopReason, Trajectory

HASHES = {"agent_db_hash": Role.ASSISTANT, "user_db_hash": Role.USER}
FIELDS = ("reward", "breakdown", "db_match", "env_assertions", "action_checks", "communicate_checks")
_THEIRS = ("termination_reason", "reward_info")  # τ²-bench's own words
_OURS = ("termination", "verdict")  # for the same, in plain records


class BadLine(ValueError):
    """A line that is not a recorded episode; the message says why."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A recorded episode. `verdict` has the fields of a verdict that were recorded; None without any."""

    domain: str
    task: str
    messages: tuple[Message, ...]
    stop: StopReason
    verdict: dict[str, Any] | None
    hashes: dict[str, str]
    solo: bool  # the agent works alone, and holds the user's tools

    @property
    def key(self) -> str:
        """Its task's `Task.key`."""
        return f"{self.domain}/{self.task}"


def read_episode(line: bytes | str) -> Episode:
    """One line of JSON as an episode. Raises BadLine naming what is wrong."""
    try:
        record = load_json(line)
        if not isinstance(record, dict):
            raise BadLine("expected a JSON object")
        if "turns" in record:
            return episode_of(decode(Trajectory, record))
        if any(name in record for name in _THEIRS):
            return _from_simulation(record)
        return _from_record(record)
    except KeyError as problem:
        raise BadLine(f"missing field {problem}") from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise BadLine(str(problem)) from None


def episode_of(trajectory: Trajectory) -> Episode:
    """An episode of ours, with the verdict that it carries."""
    solo = trajectory.user == SOLO or is_solo(trajectory.messages)
    verdict = None
    if trajectory.verdict is not None:
        parts = {name: encode(getattr(trajectory.verdict, name)) for name in FIELDS}
        verdict = {name: value for name, value in parts.items() if value not in (None, [], {})}  # what it does carry
        verdict["raises"] = trajectory.verdict.raised
    return Episode(trajectory.domain, trajectory.task, trajectory.messages, trajectory.stop, verdict, {}, solo)


def _from_simulation(record: dict[str, Any]) -> Episode:
    if both := [name for name in _OURS if name in record]:
        raise BadLine(f"{both[0]}: stands beside τ²-bench's own {' and '.join(_THEIRS)}; keep one of them")
    return episode_of(from_simulation(record, record["domain"]))


def _from_record(record: dict[str, Any]) -> Episode:
    messages = record["messages"]
    if not isinstance(messages, list):
        raise BadLine("messages: expected a list")
    verdict = record.get("verdict")
    if verdict is not None and not isinstance(verdict, dict):
        raise BadLine("verdict: expected an object")
    read = tuple(_message(message, index) for index, message in enumerate(messages))
    return Episode(
        domain=record["domain"],
        task=str(record["task_id"]),
        messages=read,
        stop=_stop(record.get("termination")),
        verdict=verdict,
        hashes={name: _hash(record, name) for name in HASHES if record.get(name)},
        solo=is_solo(read),
    )


def _hash(record: dict[str, Any], name: str) -> str:
    if not isinstance(record[name], str):
        raise BadLine(f"{name}: expected text, got {type(record[name]).__name__}")
    return str(record[name])


def _message(record: Any, index: int) -> Message:
    try:
        return read_message(record)
    except KeyError as problem:
        raise BadLine(f"messages[{index}]: missing field {problem}") from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise BadLine(f"messages[{index}]: {problem}") from None


def _stop(termination: str | None) -> StopReason:
    return StopReason.AGENT_STOP if termination is None else read_stop(termination)
