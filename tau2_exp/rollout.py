"""Many episodes at once, none waiting for another; an episode that a fault ended is started afresh."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tau2_exp.config import RolloutConfig
from tau2_exp.episode import Limits, run_episode
from tau2_exp.types import BudgetReached, Policy, Seat, Task, Trajectory, User, World


@dataclass(frozen=True, slots=True)
class Scene:
    """Where episodes take place, whoever speaks in them."""

    world: Callable[[Task], World]
    user: Callable[[Seat, World], User]
    limits: Limits
    config: RolloutConfig
    admits: Callable[[], bool] = lambda: True  # whether another episode may begin


async def rollout(
    scene: Scene, policy: Policy, seats: Sequence[Seat], finished: Callable[[Trajectory], None] = lambda _: None
) -> list[Trajectory]:
    """Play every seat; trajectories in the order of the seats. `finished` sees each as it ends.

    Seats that a budget left unplayed are missing.
    """
    places = asyncio.Semaphore(scene.config.concurrency)

    async def play(seat: Seat) -> Trajectory | None:
        async with places:
            if not scene.admits():
                return None
            try:
                trajectory = await play_without_fault(scene, policy, seat)
            except BudgetReached:
                return None
        finished(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(play(seat)) for seat in seats]
    return [trajectory for task in tasks if (trajectory := task.result())]


async def play_without_fault(scene: Scene, policy: Policy, seat: Seat) -> Trajectory:
    """The first attempt that no fault but the agent's ended, else the last one."""
    attempt = 1
    while True:
        world = scene.world(seat.task)
        agent = policy.sit(world, seat)
        trajectory = await run_episode(agent, scene.user(seat, world), world, seat, scene.limits)
        if trajectory.scored or attempt > scene.config.fault_retries:
            return dataclasses.replace(trajectory, attempts=attempt)
        attempt += 1


def check_faults(trajectories: Sequence[Trajectory], what: str) -> None:
    """Raises RuntimeError where every episode ended in a fault: then there is nothing to go on with."""
    faults = [t.fault for t in trajectories if not t.scored and t.fault]
    if trajectories and len(faults) == len(trajectories):
        raise RuntimeError(f"{what}: all {len(faults)} episodes ended in a fault; the first: {faults[0].message}")
