"""Many episodes at once, none waiting for another; an episode that a fault ended is started afresh."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tau2_exp.config import ConfigError, RolloutConfig
from tau2_exp.interfaces import Agent, Policy, User, World
from tau2_exp.rollouts.episode import Limits, play_on
from tau2_exp.rollouts.state import State, continuing_agent
from tau2_exp.system.errors import first_error
from tau2_exp.types import BudgetReached, EpisodeSpec, FaultError, StopReason, Task, Trajectory, Usage


@dataclass(frozen=True, slots=True)
class EpisodeSetting:
    """What all episodes of a rollout share beside the policy: their worlds, users and limits."""

    world: Callable[[Task], World]
    user: Callable[[EpisodeSpec, World], User]
    limits: Limits
    config: RolloutConfig


async def rollout(
    setting: EpisodeSetting,
    policy: Policy,
    specs: Sequence[EpisodeSpec],
    finished: Callable[[Trajectory], None] = lambda _: None,
    starts: Mapping[int, State] | None = None,
    kept: dict[int, list[State]] | None = None,
) -> list[Trajectory]:
    """Run the episode of every spec; trajectories in the order of the specs. `finished` is called with each as it ends.

    `starts` has, by a spec's index, the state that its episode goes on from (with the spec's `branch`); the others
    begin anew. `kept` receives, by index, a copy of the state before each turn of each episode. Episodes that a budget
    left out are missing. An error that is no fault of an episode ends all of them, and is raised as it is, outside of
    any group of exceptions.
    """
    places = asyncio.Semaphore(setting.config.concurrency)

    async def play(spec: EpisodeSpec) -> Trajectory | None:
        async with places:
            try:
                keep = None if kept is None else kept.setdefault(spec.index, [])
                trajectory = await play_without_fault(setting, policy, spec, (starts or {}).get(spec.index), keep)
            except BudgetReached:
                return None
        finished(trajectory)
        return trajectory

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(play(spec)) for spec in specs]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return [trajectory for task in tasks if (trajectory := task.result())]


async def play_without_fault(
    setting: EpisodeSetting,
    policy: Policy,
    spec: EpisodeSpec,
    start: State | None = None,
    keep: list[State] | None = None,
) -> Trajectory:
    """The first attempt that no fault but the agent's ended, else the last one; its usage is of all attempts.

    `start` is the state that it goes on from, which stays as it is; `keep` receives a copy of that before each turn.
    """
    attempt, policy_usage, user_usage = 1, Usage(), Usage()
    while True:
        if keep is not None:
            keep.clear()
        try:
            agent, state = _ready(setting, policy, spec, start)
        except FaultError as error:
            trajectory = _not_begun(spec, error)
        else:
            trajectory = await play_on(agent, state, spec, setting.limits, keep)
        policy_usage += trajectory.policy_usage
        user_usage += trajectory.user_usage
        if trajectory.scored or attempt > setting.config.fault_retries:
            return dataclasses.replace(trajectory, attempts=attempt, policy_usage=policy_usage, user_usage=user_usage)
        attempt += 1


def _ready(setting: EpisodeSetting, policy: Policy, spec: EpisodeSpec, start: State | None) -> tuple[Agent, State]:
    if start is not None:
        state = start.fork(spec.seed)
        return continuing_agent(policy, state, spec), state
    world = setting.world(spec.task)
    agent = policy.make_agent(world, spec)
    try:
        return agent, State(world, setting.user(spec, world))
    except BaseException:
        agent.close()
        raise


def _not_begun(spec: EpisodeSpec, error: FaultError) -> Trajectory:
    """An episode whose agent or user could not be made."""
    where = (spec.task.id, spec.task.domain, spec.sample, spec.seed)
    usage = error.usage
    return Trajectory(*where, (), (), StopReason.FAULT, None, fault=error.fault, policy_usage=usage, branch=spec.branch)


def check_faults(trajectories: Sequence[Trajectory], what: str) -> None:
    """Raises RuntimeError where every episode ended in a fault: then there is nothing to go on with.

    Raises ConfigError where no episode of a domain had room for the agent's first turn.
    """
    faults = [t.fault for t in trajectories if not t.scored and t.fault]
    if trajectories and len(faults) == len(trajectories):
        raise RuntimeError(f"{what}: all {len(faults)} episodes ended in a fault; the first: {faults[0].message}")
    for domain in sorted({t.domain for t in trajectories}):
        scored = [t for t in trajectories if t.domain == domain and t.scored]
        if scored and not any(had_room(t) for t in scored):
            raise ConfigError(
                f"{what}: the first prompt of {domain} does not fit into the agent's context: all {len(scored)} "
                "episodes ended before its first turn; give the model, or its server, a longer context"
            )


def had_room(trajectory: Trajectory) -> bool:
    """Whether the agent's context had room for its first turn."""
    return bool(trajectory.turns) or trajectory.stop is not StopReason.CONTEXT_FULL
