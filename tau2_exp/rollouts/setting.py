"""What the episodes of a run need: domains, tasks, worlds, users and token policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tau2_exp.config import ConfigError, EvalConfig, UserConfig, UserKind
from tau2_exp.domains import open_domain
from tau2_exp.interfaces import Domain, Generator, Tokenizer, User, World
from tau2_exp.llm.budget import Budget
from tau2_exp.llm.completion import Account
from tau2_exp.llm.keys import find_key
from tau2_exp.llm.replies import Replies
from tau2_exp.policies.tokens import SMALLEST_TURN, TokenPolicy
from tau2_exp.protocols import make_protocol, protocol_of
from tau2_exp.protocols.template import TemplateError
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting
from tau2_exp.runs.run import Run
from tau2_exp.runs.server import Server
from tau2_exp.types import EpisodeSpec, Role, Sampling, Schema, Task, stable_seed
from tau2_exp.users import make_user

TOKENIZER = TypeVar("TOKENIZER", bound=Tokenizer)


class RolloutSetting:
    """Worlds, users and token policies for the episodes of one run; each domain is loaded once.

    Raises ConfigError where the source of what the user brought is no longer what the run was frozen with.
    """

    def __init__(self, run: Run):
        run.reach_plugins()
        self.run = run
        self.config = run.config
        self.protocol = make_protocol(self.config.model.protocol)
        self._has_room = False

    @cached_property
    def domains(self) -> dict[str, Domain]:
        """The domains by name."""
        return {name: open_domain(self.config.domain.provider, name) for name in self.config.domain.names}

    @property
    def provider(self) -> str:
        """The providers of the tasks, each with its revision, in one line."""
        return ", ".join(sorted({f"{domain.provider} ({domain.revision})" for domain in self.domains.values()}))

    def tasks(self, split: str) -> list[Task]:
        """The tasks of a split, of each domain at most `domain.limit`."""
        return [
            task for domain in self.domains.values() for task in evenly(domain.tasks(split), self.config.domain.limit)
        ]

    @cached_property
    def episode_setting(self) -> EpisodeSetting:
        """Worlds, users and limits of the episodes. Raises ConfigError where the user's model has no key."""
        domain, limits = self.config.domain, self.config.rollout
        if self.config.user.kind is UserKind.litellm:
            find_key(self._user_config, "user")
        return EpisodeSetting(
            world=lambda task: self.domains[task.domain].world(task),
            user=self._user,
            limits=Limits(domain.max_steps, domain.max_errors, limits.unparsable_limit),
            config=limits,
        )

    @cached_property
    def prompts(self) -> dict[str, tuple[str, list[Schema] | None]]:
        """Each domain's document and, where the model is shown them, the agent's tool schemas."""
        kind, shown = self.config.domain.document, self.config.model.schemas
        return {
            name: (domain.document(kind), domain.schemas(Role.ASSISTANT) if shown else None)
            for name, domain in self.domains.items()
        }

    def token_policy(self, generator: Generator, tokenizer: Tokenizer, sampling: Sampling) -> TokenPolicy:
        """A policy that samples from `generator`.

        Raises ConfigError where the model's context has no room for a turn after a domain's system prompt.
        """
        model = self.config.model
        if not self._has_room:
            self._check_room(tokenizer)
            self._has_room = True
        return TokenPolicy(model.name, generator, self.protocol, tokenizer, self.prompts, sampling, model.context)

    def adopt(self, tokenizer: TOKENIZER, where: Path | str) -> TOKENIZER:
        """Write turns from now on as this tokenizer, and its chat template, write them; returns the tokenizer.

        Raises ConfigError where the template cannot be followed, or the tokenizer lacks a special token that opens or
        ends a turn: a model that cannot write it would score 0 without an error.
        """
        try:
            self.protocol = protocol_of(self.config.model, tokenizer)
        except TemplateError as error:
            raise ConfigError(f"model.path={where}: {error}; use model.protocol=single_action") from None
        ids = {border: tokenizer.token_id(border) for border in self.protocol.borders}
        missing = [border for border, id in ids.items() if id is None or tokenizer.encode(border) != [id]]
        if missing:
            raise ConfigError(
                f"model.path={where}: its tokenizer has no special token {' '.join(missing)}, with which turns of "
                f"model.protocol={self.config.model.protocol.value} begin or end; use another protocol, or a model "
                "that has it (Qwen3 has)"
            )
        return tokenizer

    def _check_room(self, tokenizer: Tokenizer) -> None:
        context = self.config.model.context
        for name, prompt in self.prompts.items():
            used = len(tokenizer.encode(self.protocol.system(*prompt)))
            if used + SMALLEST_TURN > context:
                raise ConfigError(
                    f"model.context={context}: the system prompt of {name} has {used} tokens, and leaves no room for "
                    "a turn; raise it, or take domain.document=compressed or model.schemas=false"
                )

    def specs(self, tasks: Sequence[Task], samples: int, name: str) -> list[EpisodeSpec]:
        """`samples` specs of each task, seeded by the run's seed, what they are for, task and sample."""
        pairs = [(task, sample) for task in tasks for sample in range(samples)]
        return [
            EpisodeSpec(task, sample, stable_seed(self.config.seed, name, task.key, sample), index)
            for index, (task, sample) in enumerate(pairs)
        ]

    @cached_property
    def account(self) -> Account:
        """What the run's completions share: the tokens of its own servers.

        For an evaluation also the kept replies and the budget.
        """
        config, folder = self.config, self.run.folder
        server = self._user_server
        tokens = {_api(server): server.token} if server and server.token else {}
        if not isinstance(config.stage, EvalConfig):
            return Account(tokens=tokens)
        return Account(
            tokens=tokens,
            replies=Replies(folder.parent / ".cache" / "replies"),
            own=Replies(folder / "replies") if _bounded(config.stage) else None,
            budget=Budget(folder / "spending.jsonl", config.stage.budget_dollars, config.stage.budget_tokens),
        )

    def _user(self, spec: EpisodeSpec, world: World) -> User:
        guidelines = self.domains[spec.task.domain].guidelines(bool(world.schemas(Role.USER)))
        return make_user(spec.task, world, guidelines, self._user_config, spec.seed, self.account)

    @cached_property
    def _user_config(self) -> UserConfig:
        """The user's settings, with the address of the model that is served for it."""
        server = self._user_server
        return self.config.user if server is None else dataclasses.replace(self.config.user, api_base=_api(server))

    @cached_property
    def _user_server(self) -> Server | None:
        """What serves the user's model for this run; None where none is served. Raises ConfigError where it is down."""
        return self.run.server("user") if self.config.user.serve else None


def _api(server: Server) -> str:
    """Where a server speaks OpenAI's protocol."""
    return f"{server.url}/v1"


def _bounded(stage: EvalConfig) -> bool:
    return stage.budget_dollars is not None or stage.budget_tokens is not None


def evenly(tasks: list[Task], limit: int | None) -> list[Task]:
    """At most `limit` of the tasks (None: all), evenly spaced, since neighbours resemble one another."""
    if limit is None or limit >= len(tasks):
        return tasks
    return [tasks[i * len(tasks) // limit] for i in range(limit)]
