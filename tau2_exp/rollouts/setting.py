"""What the episodes of a run need, whoever plays them: domains, tasks, worlds, users and token policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from tau2_exp.config import DomainConfig, EvalConfig, PolicyKind, UserConfig, UserKind
from tau2_exp.domains import Domain, load_domain
from tau2_exp.interfaces import Generator, Tokenizer, User, World
from tau2_exp.llm.budget import Budget
from tau2_exp.llm.completion import Account, keeps_replies
from tau2_exp.llm.replies import Replies
from tau2_exp.policies.tokens import TokenPolicy
from tau2_exp.protocols import make_protocol
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting
from tau2_exp.runs.run import Run, Server
from tau2_exp.types import EpisodeSpec, Role, Sampling, Schema, Task, stable_seed
from tau2_exp.users import make_user


class RolloutSetting:
    """Worlds, users and token policies for the episodes of one run; each domain is loaded once."""

    def __init__(self, run: Run):
        self.run = run
        self.config = run.config
        self.protocol = make_protocol(self.config.model.protocol)

    @cached_property
    def domains(self) -> dict[str, Domain]:
        return {name: load_domain(name, self.config.domain.provider) for name in self.config.domain.names}

    @property
    def provider(self) -> str:
        return ", ".join(sorted({f"{domain.provider} ({domain.revision})" for domain in self.domains.values()}))

    def tasks(self, split: str) -> list[Task]:
        return [task for domain in self.domains.values() for task in _limited(domain.tasks(split), self.config.domain)]

    @cached_property
    def episode_setting(self) -> EpisodeSetting:
        domain, limits = self.config.domain, self.config.rollout
        return EpisodeSetting(
            world=lambda task: self.domains[task.domain].world(task),
            user=self._user,
            limits=Limits(domain.max_steps, domain.max_errors, limits.unparsable_limit),
            config=limits,
            admits=lambda: self.account.admits,
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
        model = self.config.model
        return TokenPolicy(model.name, generator, self.protocol, tokenizer, self.prompts, sampling, model.context)

    def specs(self, tasks: Sequence[Task], samples: int, name: str) -> list[EpisodeSpec]:
        """`samples` specs of each task, seeded by the run's seed, what they are for, task and sample."""
        pairs = [(task, sample) for task in tasks for sample in range(samples)]
        return [
            EpisodeSpec(task, sample, stable_seed(self.config.seed, name, task.key, sample), index)
            for index, (task, sample) in enumerate(pairs)
        ]

    @cached_property
    def account(self) -> Account:
        """Evaluations keep the replies they pay for, beside all runs, and count what they spend."""
        config, folder = self.config, self.run.folder
        server = self._user_server
        tokens = {_api(server): server.token} if server and server.token else {}
        if not isinstance(config.stage, EvalConfig):
            return Account(tokens=tokens)
        return Account(
            tokens=tokens,
            replies=Replies(folder.parent / ".cache" / "replies"),
            budget=Budget(folder / "spending.jsonl", config.stage.budget_dollars, config.stage.budget_tokens),
            resumable=self._repeats_from_replies,
        )

    @property
    def _repeats_from_replies(self) -> bool:
        """Whether an episode that is played again says the same, from kept replies, for nothing."""
        user, policy = self.config.user, self.config.policy
        if user.kind is UserKind.litellm and not keeps_replies(self._user_config):
            return False
        if policy.kind is PolicyKind.litellm:
            return keeps_replies(policy)
        return policy.kind is PolicyKind.oracle

    def _user(self, spec: EpisodeSpec, world: World) -> User:
        guidelines = self.domains[spec.task.domain].guidelines(tools=bool(world.schemas(Role.USER)))
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


def _limited(tasks: list[Task], domain: DomainConfig) -> list[Task]:
    """At most `limit` tasks, evenly spaced, since neighbours resemble one another."""
    if domain.limit is None or domain.limit >= len(tasks):
        return tasks
    return [tasks[i * len(tasks) // domain.limit] for i in range(domain.limit)]
