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
from tau2_exp.stages.groups import continue_groups
from tau2_exp.stages.step_size import sampled_tokens
from tau2_exp.types import Branch, EpisodeSpec, Task, Trajectory, stable_seed

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
    states = {(i, t): kept[i][t] for i, turn in chosen for t in (turn, turn + 1) if t < len(kept[i])}
    outcomes, played = await _play_on(setting, policy, specs, states, plan)
    turns = []
    for i, turn in chosen:
        before = outcomes[i, turn]
        after = outcomes.get((i, turn + 1), (episodes[i].outcome,))
        if before and after:
            turns.append(MeasuredTurn(i, turn, before, after))
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


async def _play_on(
    setting: EpisodeSetting,
    policy: Policy,
    specs: Sequence[EpisodeSpec],
    states: dict[tuple[int, int], State],
    plan: BenchPlan,
) -> tuple[dict[tuple[int, int], tuple[float, ...]], list[Trajectory]]:
    """The outcomes of the scored continuations from each state, and all that was played."""
    begun: list[EpisodeSpec] = []
    starts: dict[int, State] = {}
    for (i, turn), state in states.items():
        for number in range(plan.continuations):
            seed = stable_seed(specs[i].seed, "truth", turn, number)
            starts[len(begun)] = state
            begun.append(EpisodeSpec(specs[i].task, len(begun), seed, len(begun), Branch(i, turn, number)))
    played = await rollout(setting, policy, begun, starts=starts)
    found: dict[tuple[int, int], tuple[float, ...]] = dict.fromkeys(states, ())
    for trajectory in played:
        if trajectory.branch and trajectory.scored:
            found[trajectory.branch.trunk, trajectory.branch.turn] += (trajectory.outcome,)
    return found, played
