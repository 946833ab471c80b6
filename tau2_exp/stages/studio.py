"""What every stage needs of its run: domains, tasks, scenes, policies, and episodes collected to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from tau2_exp.config import DomainConfig, EngineConfig, PolicyKind, UserKind
from tau2_exp.domains import Domain, load_domain
from tau2_exp.episode import Limits
from tau2_exp.policies.tokens import TokenPolicy
from tau2_exp.protocol import make_protocol
from tau2_exp.rollout import Scene, rollout
from tau2_exp.rundir import Run
from tau2_exp.stages.progress import Progress, RunningMean
from tau2_exp.types import (
    Generator,
    Policy,
    Role,
    Sampling,
    Schema,
    Seat,
    Task,
    Tokenizer,
    Trajectory,
    User,
    World,
    stable_seed,
)
from tau2_exp.users import make_user


class Studio:
    """Worlds, users and policies for the episodes of one run."""

    def __init__(self, run: Run):
        self.run = run
        self.config = run.config
        self.protocol = make_protocol(self.config.model.protocol)
        run.record(provider=self.provider)

    @cached_property
    def domains(self) -> dict[str, Domain]:
        return {name: load_domain(name, self.config.domain.provider) for name in self.config.domain.names}

    @property
    def has_parent_model(self) -> bool:
        return self.run.parent is not None and "model" in self.run.parent.results

    @property
    def provider(self) -> str:
        return ", ".join(sorted({f"{domain.provider} ({domain.revision})" for domain in self.domains.values()}))

    def tasks(self, split: str) -> list[Task]:
        return [task for domain in self.domains.values() for task in _limited(domain.tasks(split), self.config.domain)]

    @cached_property
    def scene(self) -> Scene:
        domain, limits = self.config.domain, self.config.rollout
        return Scene(
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

    @property
    def lockstep(self) -> bool:
        """Whether episodes can be repeated bit for bit: nothing in them waits for another machine."""
        config = self.config
        local = config.policy.kind in (PolicyKind.model, PolicyKind.oracle)
        return config.engine.lockstep and local and config.user.kind is UserKind.scripted

    @property
    def engine(self) -> EngineConfig:
        """The engine's settings for these episodes: no lockstep where it would wait for another machine."""
        return dataclasses.replace(self.config.engine, lockstep=self.lockstep)

    @property
    def user_name(self) -> str:
        user = self.config.user
        return user.kind.value if user.kind is UserKind.scripted else f"{user.kind.value} {user.model}"

    def token_policy(self, generator: Generator, tokenizer: Tokenizer, sampling: Sampling) -> TokenPolicy:
        model = self.config.model
        return TokenPolicy(model.name, generator, self.protocol, tokenizer, self.prompts, sampling, model.context)

    def seats(self, tasks: Sequence[Task], samples: int, name: str) -> list[Seat]:
        """`samples` seats of each task, seeded by the run's seed, what they are for, task and sample."""
        pairs = [(task, sample) for task in tasks for sample in range(samples)]
        return [
            Seat(task, sample, stable_seed(self.config.seed, name, task.key, sample), index)
            for index, (task, sample) in enumerate(pairs)
        ]

    async def collect(self, name: str, policy: Policy, seats: Sequence[Seat]) -> list[Trajectory]:
        """Play the seats into trajectories/NAME.jsonl and return them in order; what a killed run has is kept.

        Where episodes repeat bit for bit they are played in blocks, and a block cut short is played
        again whole, since what is decoded together decides the last bits.
        """
        seats = list(seats)
        block = 2 * self.config.rollout.concurrency if self.lockstep else len(seats)
        kept = list(self.run.read_trajectories(name))
        if self.lockstep:
            kept = kept[: len(kept) // block * block] if len(kept) < len(seats) else kept
        done = {_key(t): t for t in kept}
        waiting = [seat for seat in seats if (seat.task.key, seat.sample) not in done]
        mean = RunningMean()
        for trajectory in kept:
            mean.add(trajectory.outcome)
        with self.run.trajectories(name, keep=len(kept)) as file, Progress(name, len(seats), len(kept)) as bar:

            def finished(trajectory: Trajectory) -> None:
                file.write(trajectory)
                done[_key(trajectory)] = trajectory
                bar.advance(reward=mean.add(trajectory.outcome) if trajectory.scored else mean.value)

            for start in range(0, len(waiting), block or 1):
                await rollout(self.scene, policy, waiting[start : start + block], finished)
        return [done[seat.task.key, seat.sample] for seat in seats]

    def _user(self, task: Task, world: World) -> User:
        guidelines = self.domains[task.domain].guidelines(tools=bool(world.schemas(Role.USER)))
        return make_user(task, world, guidelines, self.config.user)


def _key(trajectory: Trajectory) -> tuple[str, int]:
    return trajectory.key, trajectory.sample


def _limited(tasks: list[Task], domain: DomainConfig) -> list[Task]:
    """At most `limit` tasks, evenly spaced, since neighbours resemble one another."""
    if domain.limit is None or domain.limit >= len(tasks):
        return tasks
    return [tasks[i * len(tasks) // domain.limit] for i in range(domain.limit)]


def check_faults(trajectories: Sequence[Trajectory], what: str) -> None:
    """Raises RuntimeError where every episode ended in a fault: then there is nothing to go on with."""
    faults = [t.fault for t in trajectories if not t.scored and t.fault]
    if trajectories and len(faults) == len(trajectories):
        raise RuntimeError(f"{what}: all {len(faults)} episodes ended in a fault; the first: {faults[0].message}")
