"""What a verdict was made of: every check by name, whether it held, and the turn in which it first did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tau2_exp.evaluation.sources import read_sources
from tau2_exp.types import Criteria, EnvAssertion, GoldAction, Message, Trajectory, Verdict

Lookup = Callable[[Trajectory, Path], Criteria | None]  # of an episode in a run's folder


@dataclass(frozen=True, slots=True)
class Check:
    """One check of an episode's task, and whether it held."""

    kind: str  # env_assertion, action, communicate or db
    text: str
    counts: bool  # towards the outcome
    held: bool | None  # None: the episode ended unnaturally, and τ²-bench judged nothing
    turn: int | None = None  # from 1; 0 is the opening
    side: str = ""  # whose action or database


def task_criteria(trajectory: Trajectory, folder: Path) -> Criteria | None:
    """What the episode's task checks: the task that was imported into the run's folder, else ours.

    None where no package that brings τ²-bench's tasks is installed.
    """
    imported = _imported_criteria(folder)
    if trajectory.key in imported:
        return imported[trajectory.key]
    return _all_criteria(trajectory.domain).get(trajectory.task)


@cache
def _imported_criteria(folder: Path) -> dict[str, Criteria | None]:
    return {key: task.criteria for source in read_sources(folder) for key, task in source.tasks.items()}


@cache
def _all_criteria(domain: str) -> dict[str, Criteria | None]:
    from tau2_exp.domains import ProviderError, load_domain

    try:
        found = load_domain(domain)
    except (ProviderError, ValueError):
        return {}
    return {task.id: task.criteria for split in found.splits for task in found.tasks(split)}


def list_checks(trajectory: Trajectory, criteria: Criteria | None) -> list[Check]:
    """The checks in τ²-bench's order; without criteria they have numbers for names."""
    verdict = trajectory.verdict or Verdict(reward=0.0)
    judged = trajectory.verdict is not None and trajectory.stop.natural and verdict.raised is None
    if criteria is None or (judged and not _fits(criteria, verdict)):
        return _numbered(verdict)
    checks = [
        Check(
            "env_assertion",
            _assertion(assertion),
            "ENV_ASSERTION" in criteria.basis,
            verdict.env_assertions[i] if judged else None,
            side=assertion.side.value,
        )
        for i, assertion in enumerate(criteria.assertions or ())
    ]
    first = _first_held(trajectory, criteria)
    for i, action in enumerate(criteria.actions or ()):
        turn = first[i]
        checks.append(
            Check("action", _action(action), "ACTION" in criteria.basis, turn is not None, turn, action.requestor.value)
        )
    said = _first_said(trajectory, criteria)
    for i, info in enumerate(criteria.communicate or ()):
        checks.append(Check("communicate", info, "COMMUNICATE" in criteria.basis, said[i] is not None, said[i]))
    if "DB" in criteria.basis:
        checks.append(Check("db", "the databases equal those of the reference path", True, verdict.db_match))
    return checks


def _fits(criteria: Criteria, verdict: Verdict) -> bool:
    """Whether these are the checks that the verdict was made of: a task may have changed since."""
    wanted = (criteria.assertions or (), criteria.actions or (), criteria.communicate or ())
    made = (verdict.env_assertions, verdict.action_checks, verdict.communicate_checks)
    return all(len(a) == len(b) for a, b in zip(wanted, made, strict=True))


def _numbered(verdict: Verdict) -> list[Check]:
    kinds = {
        "env_assertion": verdict.env_assertions,
        "action": verdict.action_checks,
        "communicate": verdict.communicate_checks,
    }
    bases = {kind: kind.upper() in verdict.breakdown for kind in kinds}
    return [Check(kind, f"{i + 1}", bases[kind], held) for kind, made in kinds.items() for i, held in enumerate(made)]


def _first_held(trajectory: Trajectory, criteria: Criteria) -> list[int | None]:
    from tau2_exp.domains.verdict import check_actions

    return _first(trajectory, len(criteria.actions or ()), lambda messages: check_actions(criteria, messages))


def _first_said(trajectory: Trajectory, criteria: Criteria) -> list[int | None]:
    from tau2_exp.domains.verdict import check_communicated

    return _first(trajectory, len(criteria.communicate or ()), lambda messages: check_communicated(criteria, messages))


def _first(
    trajectory: Trajectory, count: int, check: Callable[[Sequence[Message]], Sequence[bool]]
) -> list[int | None]:
    """The first turn whose own messages make each check hold: one call or one message is enough for it."""
    first: list[int | None] = [None] * count
    for number, messages in enumerate([trajectory.opening, *(turn.messages for turn in trajectory.turns)]):
        for i, held in enumerate(check(messages) if count else ()):
            if held and first[i] is None:
                first[i] = number
    return first


def _action(action: GoldAction) -> str:
    names = action.arguments if action.compare_args is None else action.compare_args
    shown = {name: action.arguments[name] for name in names if name in action.arguments}
    ignored = ", …" if len(shown) < len(action.arguments) else ""
    return f"{action.name}({_arguments(shown)}{ignored if shown else ignored[2:]})"


def _assertion(assertion: EnvAssertion) -> str:
    call = f"{assertion.function}({_arguments(assertion.arguments)})"
    return call if assertion.expected else f"not {call}"


def _arguments(arguments: dict[str, object]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
