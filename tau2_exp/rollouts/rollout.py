"""Many episodes at once, none waiting for another; an episode that a fault ended is started afresh."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tau2_exp.config import RolloutConfig
from tau2_exp.interfaces import Policy, User, World
from tau2_exp.rollouts.episode import Limits, run_episode
from tau2_exp.types import BudgetReached, EpisodeSpec, Task, Trajectory


@dataclass(frozen=True, slots=True)
class EpisodeSetting:
    """Where episodes take place, whatever the policy and the user are."""

    world: Callable[[Task], World]
    user: Callable[[EpisodeSpec, World], User]
    limits: Limits
    config: RolloutConfig
    admits: Callable[[], bool] = lambda: True  # whether another episode may begin


async def rollout(
    setting: EpisodeSetting,
    policy: Policy,
    specs: Sequence[EpisodeSpec],
    finished: Callable[[Trajectory], None] = lambda _: None,
) -> list[Trajectory]:
    """Play every spec; trajectories in the order of the specs. `finished` sees each as it ends.

    Seats that a budget left unplayed are missing.
    """
    places = asyncio.Semaphore(setting.config.concurrency)

    async def play(spec: EpisodeSpec) -> Trajectory | None:
        async with places:
            if not setting.admits():
                return None
            try:
                trajectory = await play_without_fault(setting, policy, spec)
            except BudgetReached:
                return None
        finished(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(play(spec)) for spec in specs]
    return [trajectory for task in tasks if (trajectory := task.result())]


async def play_without_fault(setting: EpisodeSetting, policy: Policy, spec: EpisodeSpec) -> Trajectory:
    """The first attempt that no fault but the agent's ended, else the last one."""
    attempt = 1
    while True:
        world = setting.world(spec.task)
        agent = policy.make_agent(world, spec)
        trajectory = await run_episode(agent, setting.user(spec, world), world, spec, setting.limits)
        if trajectory.scored or attempt > setting.config.fault_retries:
            return dataclasses.replace(trajectory, attempts=attempt)
        attempt += 1


def check_faults(trajectories: Sequence[Trajectory], what: str) -> None:
    """Raises RuntimeError where every episode ended in a fault: then there is nothing to go on with."""
    faults = [t.fault for t in trajectories if not t.scored and t.fault]
    if trajectories and len(faults) == len(trajectories):
        raise RuntimeError(f"{what}: all {len(faults)} episodes ended in a fault; the first: {faults[0].message}")
