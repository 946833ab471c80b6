"""Many episodes at once, none waiting for another; an episode that a fault ended is started afresh."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tau2_exp.config import ConfigError, RolloutConfig
from tau2_exp.interfaces import Policy, User, World
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.system.errors import first_error
from tau2_exp.types import BudgetReached, EpisodeSpec, StopReason, Task, Trajectory, Usage


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
) -> list[Trajectory]:
    """Run the episode of every spec; trajectories in the order of the specs. `finished` is called with each as it ends.

    Episodes that a budget left out are missing. An error that is no fault of an episode ends all of them, and is raised
    as it is, outside of any group of exceptions.
    """
    places = asyncio.Semaphore(setting.config.concurrency)

    async def play(spec: EpisodeSpec) -> Trajectory | None:
        async with places:
            try:
                trajectory = await play_without_fault(setting, policy, spec)
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


async def play_without_fault(setting: EpisodeSetting, policy: Policy, spec: EpisodeSpec) -> Trajectory:
    """The first attempt that no fault but the agent's ended, else the last one; its usage is of all attempts."""
    attempt, policy_usage, user_usage = 1, Usage(), Usage()
    while True:
        world = setting.world(spec.task)
        agent = policy.make_agent(world, spec)
        trajectory = await run_episode(agent, setting.user(spec, world), world, spec, setting.limits)
        policy_usage += trajectory.policy_usage
        user_usage += trajectory.user_usage
        if trajectory.scored or attempt > setting.config.fault_retries:
            return dataclasses.replace(trajectory, attempts=attempt, policy_usage=policy_usage, user_usage=user_usage)
        attempt += 1


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
