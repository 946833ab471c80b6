"""Rescore recorded episodes: run their calls in fresh worlds, judge, and compare with the verdict they carry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError, Provider
from tau2_exp.domains import ProviderError, TauWorld, load_domain
from tau2_exp.domains.tasks import read_message
from tau2_exp.domains.world import pair_calls, same_result, same_text
from tau2_exp.evaluation.results_format import read_stop
from tau2_exp.types import Message, Role, StopReason, Task, Trajectory, Verdict

_HASHES = {"agent_db_hash": Role.ASSISTANT, "user_db_hash": Role.USER}
_FIELDS = ("reward", "breakdown", "db_match", "env_assertions", "action_checks", "communicate_checks")


class BadLine(ValueError):
    """A line that is not a recorded episode; the message says why."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A recorded episode, whichever format it came in. `verdict` is what it carries, None where nothing."""

    domain: str
    task: str
    messages: tuple[Message, ...]
    stop: StopReason
    verdict: dict[str, Any] | None
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rescored:
    verdict: Verdict
    hashes: dict[str, str | None]
    texts: list[str]  # where a call's result now reads differently
    differences: list[str]  # from the verdict and the hashes that the episode carries


def register(subparsers: Any) -> None:
    """Add the `replay` command to a parser's subcommands."""
    parser = subparsers.add_parser("replay", help="rescore recorded episodes and compare with their recorded verdicts")
    parser.add_argument("episodes", nargs="+", type=Path, help="JSONL: recorded τ²-bench episodes or trajectories")
    parser.add_argument("--out", type=Path, help="write one JSON line per episode here")
    parser.add_argument("--provider", choices=[provider.value for provider in Provider], default=Provider.auto.value)
    parser.set_defaults(run=_command)


def _command(args: argparse.Namespace) -> int:
    for path in args.episodes:
        _check(path)
    with args.out.open("w", encoding="utf-8") if args.out else nullcontext() as out:
        return replay_files(args.episodes, Provider(args.provider), out)


def _check(path: Path) -> None:
    """Raises ConfigError for what holds no lines of episodes, saying what does."""
    if path.is_dir():
        files = sorted(map(str, path.glob("trajectories/*.jsonl")))
        raise ConfigError(f"{path}: is a folder; give files{': ' if files else ' of episodes'}{' '.join(files)}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    with path.open(encoding="utf-8") as file:
        first = next((line for line in file if line.strip()), "")
    if not first:
        raise ConfigError(f"{path}: holds no episodes")
    if _is_results(path.read_text(encoding="utf-8") if first.strip() == "{" else first):
        raise ConfigError(f"{path}: is a results file of τ²-bench; python -m tau2_exp import {path} --name NAME")


def _is_results(text: str) -> bool:
    try:
        return "simulations" in json.loads(text)
    except (ValueError, TypeError):
        return False


def replay_files(paths: list[Path], provider: Provider = Provider.auto, out: TextIO | None = None) -> int:
    """Rescore every episode of JSONL files; the last line printed counts those that agree.

    Returns 0 where all agree, 1 where an episode does not, or a line is not an episode.
    """
    agreeing = compared = silent = 0
    for where, line in _lines(paths):
        try:
            episode = read_episode(line)
            rescored = rescore(episode, provider)
        except BadLine as problem:
            print(f"{where}: {problem}", file=sys.stderr)
            compared += 1
            continue
        if out is not None:
            out.write(json.dumps(_record(where, episode, rescored)) + "\n")
        for text in rescored.texts:
            print(f"{where}: {text}", file=sys.stderr)
        if episode.verdict is None and not episode.hashes:
            silent += 1
            continue
        compared += 1
        agreeing += not rescored.differences
        if rescored.differences:
            print(f"{where}: {episode.domain} {episode.task}: {'; '.join(rescored.differences)}")
    if silent:
        print(f"{silent} have no recorded verdict")
    print(f"{agreeing} of {compared} agree")
    return 0 if agreeing == compared else 1


def read_episode(line: str) -> Episode:
    """One line of JSON as an episode. Raises BadLine naming what is wrong."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise BadLine("expected a JSON object")
        return _from_trajectory(record) if "turns" in record else _from_record(record)
    except json.JSONDecodeError as problem:
        raise BadLine(f"not JSON: {problem}") from None
    except KeyError as problem:
        raise BadLine(f"missing field {problem}") from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise BadLine(str(problem)) from None


def rescore(episode: Episode, provider: Provider = Provider.auto) -> Rescored:
    """Judge an episode in a world of its own. Raises BadLine where there is no such task."""
    try:
        domain = load_domain(episode.domain, provider)
        task = domain.task(episode.task)
    except (ValueError, ProviderError) as problem:
        raise BadLine(str(problem)) from None
    world = domain.world(task, history=False)  # the record holds the past conversation too
    raised, texts = _run_again(world, episode.messages)
    verdict = world.verdict(episode.messages, episode.stop)
    if raised is not None and episode.stop.natural and _replays(task):
        verdict = Verdict(reward=0.0, raised=raised)
    hashes = {name: world.db_hash(role) for name, role in _HASHES.items() if name in episode.hashes}
    return Rescored(verdict, hashes, texts, _differences(episode, verdict, hashes))


def _run_again(world: TauWorld, messages: tuple[Message, ...]) -> tuple[str | None, list[str]]:
    """What τ²-bench's replay of these messages raises, if anything, and every result that reads differently."""
    texts: list[str] = []
    raised: str | None = None
    try:
        pairs = pair_calls(messages)
    except ValueError as problem:
        return f"ValueError: {problem}", texts
    for call, expected in pairs:
        result = world.call(call)
        if not same_text(result.content, expected.content):
            texts.append(f"{call.name} returned {result.content!r}, recorded {expected.content!r}")
        try:
            same = same_result(result.content, expected.content)
        except TypeError as problem:
            raised = raised or f"TypeError: {problem}"
            continue
        if not same:
            raised = raised or f"ValueError: the result of {call.name} differs from the one recorded"
    return raised, texts


def _replays(task: Task) -> bool:
    """Whether τ²-bench's evaluation of the task looks at the environment at all."""
    criteria = task.criteria
    return criteria is not None and not (criteria.actions is None and criteria.assertions is None)


def _differences(episode: Episode, verdict: Verdict, hashes: dict[str, str | None]) -> list[str]:
    carried = episode.verdict
    if carried is not None and carried.get("raises"):
        return [] if verdict.raised else [f"raises: recorded {carried['raises']!r}, now {verdict.reward}"]
    found = [
        f"{name}: recorded {episode.hashes[name][:12]}, now {str(now)[:12]}"
        for name, now in hashes.items()
        if now != episode.hashes[name]
    ]
    if carried is None:
        return found
    if verdict.raised:
        found.append(f"raises {verdict.raised.splitlines()[0]}")
    ours = encode(verdict)
    for name in _FIELDS:
        mine = ours.get(name)
        if name in carried and _present(carried[name]) != _present(mine):
            found.append(f"{name}: recorded {carried[name]!r}, now {mine!r}")
    return found


def _present(value: Any) -> Any:
    """Nothing to check is recorded as null or as an empty list."""
    return None if value in ([], {}) else value


def _from_record(record: dict[str, Any]) -> Episode:
    messages = record["messages"]
    if not isinstance(messages, list):
        raise BadLine("messages: expected a list")
    verdict = record.get("verdict")
    if verdict is not None and not isinstance(verdict, dict):
        raise BadLine("verdict: expected an object")
    return Episode(
        domain=record["domain"],
        task=str(record["task_id"]),
        messages=tuple(_message(message, index) for index, message in enumerate(messages)),
        stop=_stop(record.get("termination")),
        verdict=verdict,
        hashes={name: record[name] for name in _HASHES if record.get(name)},
    )


def _message(record: Any, index: int) -> Message:
    try:
        return read_message(record)
    except KeyError as problem:
        raise BadLine(f"messages[{index}]: missing field {problem}") from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise BadLine(f"messages[{index}]: {problem}") from None


def _stop(termination: str | None) -> StopReason:
    if termination is None:
        return StopReason.AGENT_STOP
    try:
        return read_stop(termination)
    except ValueError as problem:
        raise BadLine(str(problem)) from None


def _from_trajectory(record: dict[str, Any]) -> Episode:
    trajectory = decode(Trajectory, record)
    verdict = None
    if trajectory.verdict is not None:
        verdict = {name: encode(getattr(trajectory.verdict, name)) for name in _FIELDS}
        verdict["raises"] = trajectory.verdict.raised
    return Episode(trajectory.domain, trajectory.task, trajectory.messages, trajectory.stop, verdict, {})


def _lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line


def _record(where: str, episode: Episode, rescored: Rescored) -> dict[str, Any]:
    return {
        "episode": where,
        "domain": episode.domain,
        "task_id": episode.task,
        "agrees": not rescored.differences,
        "differences": rescored.differences,
        "texts": rescored.texts,
        **rescored.hashes,
        "verdict": encode(rescored.verdict),
    }
