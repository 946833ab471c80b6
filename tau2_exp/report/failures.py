"""How episodes fail: each mode a fact of the recorded episode and of its task, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cache
from pathlib import Path

from tau2_exp.evaluation.standing import standing
from tau2_exp.report.checks import task_criteria
from tau2_exp.report.trials import Subject, Trial
from tau2_exp.report.viewer_episode import read_recorded
from tau2_exp.types import (
    SOLO,
    SOLVED,
    Criteria,
    FaultSource,
    GoldAction,
    Message,
    Role,
    StopReason,
    ToolCall,
    Trajectory,
)


class Failure(str, Enum):
    """The failure modes of an episode, which may show several. All but the last are of unsolved episodes."""

    HALLUCINATED_TOOL = "hallucinated tool"
    USERS_TOOL = "user's tool"
    WRONG_TOOL = "wrong tool"
    WRONG_ARGUMENT = "wrong argument"
    MISSED_ACTION = "missed action"
    EARLY_DONE = "done too early"
    NO_FOLLOW_UP = "no follow-up"
    NOT_COMMUNICATED = "not communicated"
    CUT_SHORT = "turn cut short"
    USER_FAULT = "user simulator fault"

    @property
    def definition(self) -> str:
        """The sentence that defines the mode in the report."""
        return _DEFINITIONS[self]


_DEFINITIONS = {
    Failure.HALLUCINATED_TOOL: "The agent called a tool that neither side has.",
    Failure.USERS_TOOL: "The agent called a tool that the user has and the agent lacks.",
    Failure.WRONG_TOOL: "The agent changed the world with a tool that the reference path does not use.",
    Failure.WRONG_ARGUMENT: "The tool of an agent's action on the reference path was called, but never with matching "
    "arguments.",
    Failure.MISSED_ACTION: "A tool that the reference path uses, on either side, was never called.",
    Failure.EARLY_DONE: "The agent ended the episode while an assertion about the world did not hold; in tasks without "
    "assertions, while an action of the reference path was not done.",
    Failure.NO_FOLLOW_UP: "The agent ended the episode, and after the last turn that changed the world (or from the "
    "start) it had asked no question and neither side had called a tool.",
    Failure.NOT_COMMUNICATED: "The agent did not tell the user everything that the task requires.",
    Failure.CUT_SHORT: "A turn of the agent was cut at its bound of tokens (max_tokens), and could not be used.",
    Failure.USER_FAULT: "The user simulator failed. Such episodes are not scored; the share is of all episodes.",
}


@dataclass(frozen=True)
class Tools:
    """Who has which tools, in one domain."""

    agent: frozenset[str]
    user: frozenset[str]


@dataclass
class Failures:
    """Counts of how episodes ended and failed."""

    episodes: int = 0
    unsolved: int = 0  # of those scored
    unscored: int = 0  # lost to a fault that is not the agent's, or evaluated by nobody
    stops: Counter[str] = field(default_factory=Counter)  # of all episodes
    unsolved_stops: Counter[str] = field(default_factory=Counter)
    modes: Counter[Failure] = field(default_factory=Counter)  # of unsolved episodes; USER_FAULT of all
    missing: tuple[Path, ...] = ()  # files of finished evaluations that hold no episodes: nothing here is of them

    def add(self, trajectory: Trajectory, folder: Path) -> None:
        """Count an episode in a run's folder."""
        unsolved = trajectory.scored and trajectory.outcome < SOLVED
        self.episodes += 1
        self.unsolved += unsolved
        self.unscored += not trajectory.scored
        self.stops[trajectory.stop.value] += 1
        if unsolved:
            self.unsolved_stops[trajectory.stop.value] += 1
        self.modes.update(_diagnosed(trajectory, folder))

    def __add__(self, other: Failures) -> Failures:
        return Failures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def modes(trajectory: Trajectory, folder: Path) -> list[str]:
    """The names of an episode's failure modes, for lists and filters; `folder` is its run's."""
    return [failure.value for failure in _diagnosed(trajectory, folder)]


def _diagnosed(trajectory: Trajectory, folder: Path) -> list[Failure]:
    return diagnose(trajectory, task_criteria(trajectory, folder), tools_of(trajectory.domain))


def failures(trial: Trial, subject: Subject) -> Failures:
    """Counts over what a subject's runs recorded of a trial, the greedy samples aside."""
    found = Failures()
    for evaluation in subject.evaluations.values():
        domain = evaluation.name.rpartition(" ")[0]
        path = evaluation.run.folder / "trajectories" / f"{trial.split}.jsonl"
        recorded = _by_domain(path)
        if not recorded:
            found.missing += (path,)
        for name, counts in recorded.items():
            if not domain or name == domain:
                found += counts
    return found


@cache
def _by_domain(path: Path) -> dict[str, Failures]:
    """Counts over a finished evaluation's file, kept: of several domains, each is a trial and all together are one."""
    found: dict[str, Failures] = {}
    for trajectory in standing(trajectory for _, trajectory in read_recorded(path)).values():
        found.setdefault(trajectory.domain, Failures()).add(trajectory, path.parent.parent)
    return found


def diagnose(trajectory: Trajectory, criteria: Criteria | None, tools: Tools | None) -> list[Failure]:
    """The failure modes that an episode shows; none for a solved one.

    Without `criteria` (the task's) or `tools`, the modes that need them are not looked for.
    """
    if not trajectory.scored:
        fault = trajectory.fault
        return [Failure.USER_FAULT] if fault and fault.source is FaultSource.USER else []
    if trajectory.outcome >= SOLVED:
        return []
    return [*_with_tools(trajectory, tools), *_off_the_path(trajectory, criteria), *_at_the_end(trajectory, criteria)]


@cache
def tools_of(domain: str) -> Tools | None:
    """The tools of a domain; None where no package that brings τ²-bench's tools is installed."""
    from tau2_exp.domains import ProviderError, load_domain

    try:
        loaded = load_domain(domain)
    except (ProviderError, ValueError):
        return None
    names = [frozenset(s["function"]["name"] for s in loaded.schemas(role)) for role in (Role.ASSISTANT, Role.USER)]
    return Tools(*names)


# ---------------------------------------------------------------- the modes


def _with_tools(trajectory: Trajectory, tools: Tools | None) -> Iterator[Failure]:
    if tools is None:
        return
    foreign = {call.name for call in _agent_calls(trajectory)} - tools.agent
    if foreign - tools.user:
        yield Failure.HALLUCINATED_TOOL
    if foreign & tools.user and trajectory.user != SOLO:
        yield Failure.USERS_TOOL


def _off_the_path(trajectory: Trajectory, criteria: Criteria | None) -> Iterator[Failure]:
    """Where the agent left the reference path. Other right paths may exist: but this episode is unsolved."""
    if criteria is None or criteria.actions is None:
        return
    gold = {action.name for action in criteria.actions}
    if any(turn.changes and call.name not in gold for turn in trajectory.turns for call in _calls(turn.messages[:1])):
        yield Failure.WRONG_TOOL
    called = {call.name for call in _calls(trajectory.messages)}
    undone = _undone(trajectory, criteria)
    if any(action.name in called for action in undone if action.requestor is Role.ASSISTANT):
        yield Failure.WRONG_ARGUMENT
    if any(action.name not in called for action in undone):
        yield Failure.MISSED_ACTION


def _at_the_end(trajectory: Trajectory, criteria: Criteria | None) -> Iterator[Failure]:
    end = trajectory.turns[-1].parts if trajectory.turns else trajectory.initial
    if trajectory.stop is StopReason.AGENT_STOP:
        if end.env_assertion is not None:
            early = end.env_assertion < SOLVED
        else:
            early = criteria is not None and bool(_undone(trajectory, criteria))
        if early:
            yield Failure.EARLY_DONE
        if not _followed_up(trajectory):
            yield Failure.NO_FOLLOW_UP
    if end.communicate is not None and end.communicate < SOLVED:
        yield Failure.NOT_COMMUNICATED
    if any(turn.truncated for turn in trajectory.turns):
        yield Failure.CUT_SHORT


def _undone(trajectory: Trajectory, criteria: Criteria) -> list[GoldAction]:
    """The actions of the reference path that nobody did."""
    from tau2_exp.domains.verdict import check_actions

    done = check_actions(criteria, trajectory.messages)
    return [action for action, was in zip(criteria.actions or (), done, strict=True) if not was]


def _followed_up(trajectory: Trajectory) -> bool:
    """After the last turn that changed the world (else from the start): a question, or a tool call by either side."""
    last = max((i for i, turn in enumerate(trajectory.turns) if turn.changes), default=-1)
    after = [message for turn in trajectory.turns[last + 1 :] for message in turn.messages]
    asked = any(message.role is Role.ASSISTANT and "?" in (message.content or "") for message in after)
    return asked or any(message.tool_calls for message in after)


def _agent_calls(trajectory: Trajectory) -> list[ToolCall]:
    return [call for call in _calls(trajectory.messages) if call.requestor is Role.ASSISTANT]


def _calls(messages: tuple[Message, ...]) -> list[ToolCall]:
    return [call for message in messages if message.role is not Role.TOOL for call in message.tool_calls]
