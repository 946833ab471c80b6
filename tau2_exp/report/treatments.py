"""How far apart the arms' credit is on the same episodes: arms of equal credit are one treatment."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from tau2_exp.config import ConfigError, RewardConfig, RewardKind
from tau2_exp.learning.advantage import group_credit, step_scale
from tau2_exp.learning.metrics import ROLLOUTS
from tau2_exp.learning.reward import score
from tau2_exp.report.collect import Collection
from tau2_exp.report.credit import cut_groups, steps_of
from tau2_exp.report.trials import Found
from tau2_exp.report.viewer_episode import read_recorded
from tau2_exp.runs.run import Run
from tau2_exp.types import Trajectory

ALIKE = 0.98  # a correlation above this says that two arms are one treatment
STEPS = 4  # that are read of a run, or of the runs of one arm
Step = list[list[Trajectory]]  # its groups of scored episodes


@dataclass(frozen=True)
class Distance:
    """The correlation of two arms' advantages, turn by turn, over episodes that one of them or the other sampled."""

    a: str
    b: str
    correlation: float
    turns: int

    @property
    def alike(self) -> bool:
        """Whether the two arms are one treatment."""
        return self.correlation > ALIKE

    @property
    def warning(self) -> str:
        """A sentence about two arms that are alike."""
        return (
            f"{self.a} and {self.b} are one treatment: their advantages correlate at {self.correlation:.3f} on the "
            f"same {self.turns} turns; a difference between their scores does not come from the reward"
        )


def distances(collection: Collection) -> list[Distance]:
    """Every pair of GRPO arms whose rewards differ. Arms with a function of the user's own are not computed again."""
    runs: dict[str, list[Run]] = {}
    for found in sorted((f for f in collection.runs if f.run.stage == "grpo"), key=_by_seed):
        reward = found.run.config.reward
        if reward.function is None and reward.credit is None:
            runs.setdefault(found.arm, []).append(found.run)
    rewards = {arm: of_arm[0].config.reward for arm, of_arm in runs.items()}
    pairs = [(a, b) for a, b in combinations(runs, 2) if rewards[a] != rewards[b]]
    steps = {arm: _first_steps(runs[arm]) for arm in dict.fromkeys(arm for pair in pairs for arm in pair)}
    credit = {
        (arm, of): [a for step in steps[of] for a in _advantages(step, rewards[arm])]
        for pair in pairs
        for arm in pair
        for of in pair
    }
    told = {pair: [of for of in pair if _can_tell([rewards[arm] for arm in pair], rewards[of])] for pair in pairs}
    joined = {pair: [[x for of in told[pair] for x in credit[arm, of]] for arm in pair] for pair in pairs}
    return [
        Distance(a, b, r, len(ours))
        for (a, b), (ours, others) in joined.items()
        if (r := correlation(ours, others)) is not None
    ]


def correlation_with_outcome(run: Run) -> float | None:
    """The correlation of a GRPO run's advantages with those of reward=outcome, on its own first STEPS steps."""
    steps = _steps(run, STEPS)
    penalty = run.config.reward.unparsable_penalty
    outcome = RewardConfig(kind=RewardKind.outcome, alpha=0.0, unparsable_penalty=penalty)
    ours, others = ([a for step in steps for a in _advantages(step, c)] for c in (run.config.reward, outcome))
    return correlation(ours, others)


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one of the two does not vary, or there are less than two of each.

    Raises ValueError where there are not as many of one as of the other.
    """
    if len(xs) != len(ys):
        raise ValueError(f"{len(xs)} numbers beside {len(ys)}")
    try:
        return statistics.correlation(xs, ys)
    except statistics.StatisticsError:
        return None


def _can_tell(pair: Sequence[RewardConfig], of: RewardConfig) -> bool:
    """Whether both rewards can be computed on these episodes: branches are credited where some were played."""
    return of.kind is RewardKind.branch or all(config.kind is not RewardKind.branch for config in pair)


def _advantages(step: Step, config: RewardConfig) -> list[float]:
    """What this reward trains the turns of a step on, in their order; 0 in groups that it does not train on.

    The turns are those of whole episodes: a continuation is read by `branch` alone.
    """
    branches = config.kind is RewardKind.branch
    groups = [[t for t in group if branches or t.branch is None] for group in step]
    credits = [group_credit([(t, score(t, config)) for t in group], config) for group in groups]
    scale = step_scale(credit for credit in credits if credit.signal)
    return [
        a
        for group, credit in zip(groups, credits, strict=True)
        for trajectory, turns in zip(group, credit.weighted(credit.advantages(scale)), strict=True)
        for a in turns
        if trajectory.branch is None
    ]


def _first_steps(runs: Sequence[Run]) -> list[Step]:
    """STEPS steps of an arm: as many of each of its runs, so that no one seed decides."""
    return [step for run in runs[:STEPS] for step in _steps(run, max(1, STEPS // len(runs)))]


def _steps(run: Run, count: int) -> list[Step]:
    """The first steps of a run, as far as it has recorded them; none where its episodes cannot be read."""
    ends = steps_of(run)[:count]
    steps: list[Step] = [[] for _ in ends]
    recorded = read_recorded(run.folder / "trajectories" / f"{ROLLOUTS}.jsonl")
    trajectories = (trajectory for _, trajectory in islice(recorded, ends[-1] if ends else 0))
    try:
        for step, group in cut_groups(trajectories, ends, lambda trajectory: trajectory):
            if step is not None:
                steps[step - 1].append([t for t in group if t.scored])
    except ConfigError:  # the viewer names the file and what is wrong with it
        return []
    return steps


def _by_seed(found: Found) -> tuple[int, str]:
    return len(found.seed), found.seed
