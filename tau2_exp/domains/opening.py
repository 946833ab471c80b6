"""A domain as the configuration names it: one of τ²-bench's, or the user's own by its dotted path."""

from __future__ import annotations

from functools import cache

from tau2_exp.config import TASK_REVISION, DomainConfig
from tau2_exp.domains.domain import NAMES, load_domain
from tau2_exp.interfaces import Domain
from tau2_exp.plugins import PluginError, in_one_line, is_path, make
from tau2_exp.protocols.single_action import DONE, RESPOND
from tau2_exp.types import Role

KEY = "domain.provider"


def open_domain(provider: str, name: str | None = None) -> Domain:
    """The domain of that name, made once a process. A custom provider has one domain, whose name need not be given.

    Raises ProviderError, ValueError or PluginError where it cannot be had.
    """
    if not is_path(provider):
        return load_domain(str(name), provider)
    domain = _custom(provider)
    if name not in (None, domain.name):
        raise ValueError(f"no domain {name!r}; {provider} is {domain.name}")
    return domain


def task_revision(config: DomainConfig) -> str:
    """The revision of the tasks that a configuration names: results of different revisions do not compare."""
    return _custom(config.provider).revision if is_path(config.provider) else TASK_REVISION


@cache
def _custom(path: str) -> Domain:
    domain: Domain = make(KEY, path)
    try:
        problem = _problem(domain)
    except Exception as error:
        raise PluginError(f"{KEY}={path}: raised {in_one_line(error)}") from error
    if problem:
        raise PluginError(f"{KEY}={path}: {problem}")
    return domain


def _problem(domain: Domain) -> str:
    """What is wrong with a domain that has all a domain needs; empty where it will do. It may raise what says so."""
    if not domain.name or "/" in domain.name:
        return f"its name is {domain.name!r}; it must be a word without a slash"
    if domain.name in NAMES:
        return f"its name is that of τ²-bench's {domain.name}; use another"
    domain.schemas(Role.USER)
    names = {schema["function"]["name"] for schema in domain.schemas(Role.ASSISTANT)}
    if taken := sorted(names & {str(own["name"]) for own in (RESPOND, DONE)}):
        return f"has a tool {taken[0]}, which protocol=single_action has itself; give yours another name"
    if not domain.splits:
        return "has no splits; give it tasks"
    for split, ids in domain.splits.items():
        tasks = domain.tasks(split)
        if not tasks or [task.id for task in tasks] != list(ids) or len(set(ids)) < len(ids):
            return f"split {split}: must hold tasks, each of them once"
        if strangers := {task.domain for task in tasks} - {domain.name}:
            return f"split {split}: has tasks of domain {strangers.pop()!r}, and its own name is {domain.name!r}"
    return ""
