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

from tau2_exp.codec import encode
from tau2_exp.config import TASK_REVISION, ConfigError, Provider
from tau2_exp.domains import ProviderError, TauDomain, TauWorld, load_domain, open_domain
from tau2_exp.domains.opening import KEY
from tau2_exp.domains.world import pair_calls, same_result, same_text
from tau2_exp.evaluation.episodes import FIELDS, HASHES, BadLine, Episode, read_episode
from tau2_exp.evaluation.plan import PLAN, read_plan
from tau2_exp.evaluation.results_file import load_json
from tau2_exp.evaluation.sources import read_sources
from tau2_exp.interfaces import World
from tau2_exp.plugins import is_path, load, reach
from tau2_exp.runs.run import Run
from tau2_exp.types import Message, Task, Verdict


class NoDomain(BadLine):
    """The domain of an episode cannot be opened; the message says why."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """An episode's verdict and database hashes, computed anew, and how they differ from the recorded ones."""

    verdict: Verdict
    hashes: dict[str, str | None]
    texts: list[str]  # where a call's result now reads differently
    differences: list[str]  # from the verdict and the hashes that the episode carries


@dataclass(frozen=True)
class _Imported:
    """The task revision of an imported file's episodes, where it is not ours, and their tasks as they were imported."""

    revision: str
    tasks: dict[str, Task]  # by key; empty where only simulations were imported
    whole: bool  # False: imported before its tasks were kept

    def differs(self, episode: Episode) -> bool:
        """Whether the episode's task is not scored as ours of the same name is."""
        if episode.key not in self.tasks:
            return not self.whole
        try:
            ours = load_domain(episode.domain).task(episode.task)
        except (ValueError, ProviderError):
            return True
        return _scored_parts(self.tasks[episode.key]) != _scored_parts(ours)


def _scored_parts(task: Task) -> tuple[Any, ...]:
    return task.criteria, task.agent_data, task.user_data, task.setup, task.history


def register(subparsers: Any) -> None:
    """Add the `replay` command to a parser's subcommands."""
    parser = subparsers.add_parser("replay", help="rescore recorded episodes and compare with their recorded verdicts")
    parser.add_argument("episodes", nargs="+", type=Path, help="JSONL: recorded τ²-bench episodes or trajectories")
    parser.add_argument("--out", type=Path, help="write one JSON line per episode here")
    words = ", ".join(Provider)
    own = "module:name of your own domain (default: that of the file's run, else auto)"
    parser.add_argument("--provider", default=Provider.auto.value, help=f"{words}, or {own}")
    parser.set_defaults(run=_command)


def _command(args: argparse.Namespace) -> int:
    for path in args.episodes:
        _check(path)
        if args.out and args.out.exists() and args.out.samefile(path):
            raise ConfigError(f"--out {args.out}: is one of the files to rescore; name another")
    with args.out.open("w", encoding="utf-8") if args.out else nullcontext() as out:
        return replay_files(args.episodes, _provider(args.provider), out)


def _provider(given: str) -> str:
    """Raises ConfigError for what is neither a word nor a dotted path that can be imported."""
    if is_path(given):
        reach([Path.cwd()])
        load(KEY, given)
    elif given not in list(Provider):
        raise ConfigError(f"--provider {given}: there are {', '.join(Provider)}, or module:name of your own domain")
    return given


def _check(path: Path) -> None:
    """Raises ConfigError for what holds no lines of episodes, saying what does."""
    if path.is_dir() and not (path / "results.json").is_file():
        files = sorted(map(str, path.glob("trajectories/*.jsonl")))
        raise ConfigError(f"{path}: is a folder; give files{': ' if files else ' of episodes'}{' '.join(files)}")
    if path.is_dir() or (path.is_file() and _is_results(path)):
        raise ConfigError(f"{path}: is a results file of τ²-bench; python -m tau2_exp import {path} --name NAME")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if not any(line.strip() for _, line in _lines(path)):
        raise ConfigError(f"{path}: holds no episodes")


def _is_results(path: Path) -> bool:
    """Whether the file as a whole, or its first line, is results or a list of simulations."""
    first = next((line for _, line in _lines(path)), b"").strip()
    try:
        data = load_json(path.read_bytes() if first in (b"{", b"[") else first)
    except ValueError:
        return False
    return bool(data) and isinstance(data[0], dict) if isinstance(data, list) else "simulations" in data


def replay_files(paths: list[Path], provider: str = Provider.auto, out: TextIO | None = None) -> int:
    """Rescore every episode of JSONL files; the last line printed counts those that agree.

    An episode of another task revision, whose task differs from ours, is counted and not rescored. Returns 0 where all
    agree; 1 where one does not, a line is not an episode, or nothing could be compared.
    """
    agreeing = compared = silent = elsewhere = 0
    closed: set[str] = set()  # domains that cannot be opened, each said once
    for path in paths:
        opened = _own_provider(path) or provider if provider == Provider.auto else provider
        imported = None if is_path(opened) else _imported(path)
        for number, line in _lines(path):
            where = f"{path}:{number}"
            try:
                episode = read_episode(line)
                if imported and imported.differs(episode):
                    elsewhere += 1
                    continue
                rescored = rescore(episode, opened)
            except NoDomain as problem:
                if str(problem) not in closed:
                    mend = "for a domain of your own, give --provider module:name"
                    print(f"{where}: {problem}; {mend}", file=sys.stderr)
                closed.add(str(problem))
                compared += 1
                continue
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
                _say(f"{where}: {episode.domain} {episode.task}: {'; '.join(rescored.differences)}")
    if silent:
        print(f"{silent} have no recorded verdict")
    if elsewhere:
        print(f"{elsewhere} are not rescored: their tasks differ from those of {TASK_REVISION}")
    print(f"{agreeing} of {compared} agree" if compared or not elsewhere else "nothing to compare")
    return 0 if agreeing == compared and (compared or not elsewhere) else 1


def _say(text: str) -> None:
    """What others wrote may hold half a surrogate pair, which no terminal takes."""
    print(text.encode("utf-8", "backslashreplace").decode())


def _own_provider(path: Path) -> str | None:
    """The custom domain that the run of a trajectories file was played on; None where there is none.

    Raises ConfigError where it cannot be imported.
    """
    folder = path.absolute().parent.parent
    if path.absolute().parent.name != "trajectories" or not (folder / "manifest.json").is_file():
        return None
    run = Run.open(folder)
    provider = run.config.domain.provider
    if not is_path(provider):
        return None
    reach(plugin.folder for plugin in run.manifest.plugins)
    return _provider(provider)


def _imported(path: Path) -> _Imported | None:
    """What a run's file was played on, where that is another task revision than ours; said aloud."""
    folder = path.absolute().parent.parent
    if path.absolute().parent.name != "trajectories" or not (folder / PLAN).is_file():
        return None
    revision = read_plan(folder).revision
    if revision == TASK_REVISION:
        return None
    print(f"{path}: its tasks are of {revision}; those here are of {TASK_REVISION}")
    sources = read_sources(folder)
    return _Imported(revision, {key: task for s in sources for key, task in s.tasks.items()}, bool(sources))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def rescore(episode: Episode, provider: str = Provider.auto) -> Rescored:
    """Judge an episode in a world of its own. Raises NoDomain, or BadLine where there is no such task."""
    try:
        domain = open_domain(provider, episode.domain)
    except (ValueError, ProviderError) as problem:
        raise NoDomain(str(problem)) from None
    try:
        task = domain.task(episode.task)
    except (ValueError, ProviderError) as problem:
        raise BadLine(str(problem)) from None
    if isinstance(domain, TauDomain):
        world: World = domain.world(
            task, history=False, solo=episode.solo
        )  # the record holds the past conversation too
    else:
        world = domain.world(task)
    raised, texts = _run_again(world, episode.messages)
    verdict = world.verdict(episode.messages, episode.stop)
    if raised is not None and episode.stop.natural and _replays(task):
        verdict = Verdict(reward=0.0, raised=raised)
    recorded = {name: role for name, role in HASHES.items() if name in episode.hashes}
    hashes = {name: world.db_hash(role) for name, role in recorded.items()} if isinstance(world, TauWorld) else {}
    return Rescored(verdict, hashes, texts, _differences(episode, verdict, hashes))


def _run_again(world: World, messages: tuple[Message, ...]) -> tuple[str | None, list[str]]:
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
    for name in FIELDS:
        mine = ours.get(name)
        if name in carried and _present(carried[name]) != _present(mine):
            found.append(f"{name}: recorded {carried[name]!r}, now {mine!r}")
    return found


def _present(value: Any) -> Any:
    """Nothing to check is recorded as null or as an empty list."""
    return None if value in ([], {}) else value


def _record(where: str, episode: Episode, rescored: Rescored) -> dict[str, Any]:
    return {
        "episode": where,
        "domain": episode.domain,
        "task_id": episode.task,
        "solo": episode.solo,
        "agrees": not rescored.differences,
        "differences": rescored.differences,
        "texts": rescored.texts,
        **rescored.hashes,
        "verdict": encode(rescored.verdict),
    }
