"""Playing for the bench of credit: fresh groups, and from before and behind a sample of their turns many times on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.config import BranchConfig
from tau2_exp.evaluation.credit_bench import MeasuredGroup, MeasuredTurn
from tau2_exp.interfaces import Policy
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.rollouts.state import State
from tau2_exp.stages.groups import Point, continue_groups, play_on
from tau2_exp.stages.step_size import sampled_tokens
from tau2_exp.types import EpisodeSpec, Task, Trajectory, stable_seed

SIZE = 8  # episodes of a group


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """How much is played of each task: turns measured, times each state is played on from, and the branches."""

    turns: int
    continuations: int
    branch: BranchConfig
    seed: int


async def measure_group(setting: EpisodeSetting, policy: Policy, task: Task, plan: BenchPlan) -> MeasuredGroup:
    """Play one task's group and measure a sample of its turns. Everything follows from the plan's seed.

    Raises ConfigError where a world, a user or the policy cannot go on from the middle of an episode.
    """
    seeds = [stable_seed(plan.seed, "credit", task.key, sample) for sample in range(SIZE)]
    specs = [EpisodeSpec(task, sample, seed, sample) for sample, seed in enumerate(seeds)]
    kept: dict[int, list[State]] = {}
    episodes = await rollout(setting, policy, specs, kept=kept)
    groups = [list(episodes)]
    await continue_groups(setting, policy, groups, [specs], kept, plan.branch)
    branches = groups[0][len(episodes) :]
    chosen = _choose(episodes, plan)
    places = dict.fromkeys((i, t) for i, turn in chosen for t in (turn, turn + 1) if t < len(kept[i]))
    points = [Point(specs[i], t, kept[i][t], n * plan.continuations) for n, (i, t) in enumerate(places)]
    played = await play_on(setting, policy, points, plan.continuations, "truth")
    outcomes: dict[tuple[int, int], tuple[float, ...]] = dict.fromkeys(places, ())
    for trajectory in played:
        if trajectory.branch and trajectory.scored:
            outcomes[trajectory.branch.trunk, trajectory.branch.turn] += (trajectory.outcome,)
    turns = []
    for i, turn in chosen:
        before, after = outcomes[i, turn], outcomes.get((i, turn + 1))
        if min(len(before), 2 if after is None else len(after)) < 2:  # lost to faults: no standard error
            continue
        turns.append(MeasuredTurn(i, turn, before, (episodes[i].outcome,) if after is None else after))
    return MeasuredGroup(
        tuple(episodes),
        tuple(branches),
        tuple(turns),
        sampled_tokens(episodes),
        sampled_tokens(branches),
        sampled_tokens(played),
    )


def _choose(episodes: Sequence[Trajectory], plan: BenchPlan) -> list[tuple[int, int]]:
    """The turns to measure, all equally likely."""
    places = [(i, t) for i, episode in enumerate(episodes) if episode.scored for t in range(len(episode.turns))]
    draw = random.Random(stable_seed(plan.seed, "turns", episodes[0].key))
    return sorted(draw.sample(places, min(plan.turns, len(places))))
