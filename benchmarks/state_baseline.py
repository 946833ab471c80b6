"""What is a good notion of a state? What the baseline of `reward=turn_level` leaves of the advantages' variance.

    python benchmarks/state_baseline.py [RUN …]

reads the episodes that GRPO runs recorded (default: those in outputs/). Each notion of a state is held against the
baseline of the group: a smaller share of the variance is better.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from tau2_exp.config import RewardConfig, RewardKind
from tau2_exp.learning.advantage import discounted, episode_return
from tau2_exp.learning.baseline import less_others
from tau2_exp.learning.metrics import ROLLOUTS
from tau2_exp.learning.reward import potentials, score
from tau2_exp.learning.states import world_states
from tau2_exp.report.credit import cut_groups, steps_of
from tau2_exp.runs.run import Run
from tau2_exp.types import Trajectory

CONFIG = RewardConfig(kind=RewardKind.turn_level, alpha=1.0)
States = Callable[[Trajectory], Sequence[str]]


def potential_states(trajectory: Trajectory) -> list[str]:
    """Φ before each turn."""
    return [f"{phi:.9f}" for phi in potentials(trajectory, CONFIG)[:-1]]


def both(trajectory: Trajectory) -> list[str]:
    """Φ and the changes to the world."""
    return [" ".join(pair) for pair in zip(potential_states(trajectory), world_states(trajectory), strict=True)]


NOTIONS: dict[str, States] = {"Φ before the turn": potential_states, "changes to the world": world_states, "both": both}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    folders = parser.parse_args().runs or [path.parent for path in sorted(Path("outputs").glob("*/metrics.jsonl"))]
    runs = [run for run in map(Run.open, folders) if run.stage == "grpo"]
    if not runs:
        print("no GRPO run in outputs/: `make run` makes one, or name some")
    for run in runs:
        report(run)


def report(run: Run) -> None:
    groups = list(recorded_groups(run))
    if not any(t.turns for group in groups for t in group):
        print(f"{run.folder.name}: no group of several episodes")
        return
    _, turn, episode = baselined(groups, None)
    count = sum(len(t.turns) for group in groups for t in group)
    print(
        f"{run.folder.name}: {len(groups)} groups, {count} turns\n{'equal …':24}{'met':>6}{'return':>9}{'outcome':>9}"
    )
    for name, states in NOTIONS.items():
        met, own, whole = baselined(groups, states)
        print(f"{name:24}{met:6.0%}{share(own, turn):>9}{share(whole, episode):>9}")


def share(part: float, whole: float) -> str:
    """Empty where there was no variance to begin with."""
    return f"{part / whole:.2f}" if whole else ""


def recorded_groups(run: Run) -> Iterator[list[Trajectory]]:
    """The groups of a run's rollouts that have something to compare."""
    for _, group in cut_groups(run.trajectories(ROLLOUTS), steps_of(run), lambda trajectory: trajectory):
        scored = [t for t in group if t.scored and t.branch is None]
        if len(scored) > 1:
            yield scored


def baselined(groups: Sequence[Sequence[Trajectory]], states: States | None) -> tuple[float, float, float]:
    """The share of turns that met another episode's state, and the mean squares of returns and outcomes that are left.

    The groups with signal are those that a step trains on, but which those are depends on the baseline: all are read.
    """
    met: list[bool] = []
    squares: tuple[list[float], list[float]] = ([], [])
    for group in groups:
        rewards = [score(t, CONFIG) for t in group]
        earned = [episode_return(reward) for reward in rewards]
        outcomes = [(x,) * len(t.turns) for x, t in zip(earned, group, strict=True)]
        returns = [discounted(reward.progress, CONFIG.turn_discount) for reward in rewards]
        totals = [fmean(numbers) if numbers else None for numbers in returns]
        known = [states(t) for t in group] if states else None
        for into, (whole, each) in zip(squares, ((totals, returns), (earned, outcomes)), strict=True):
            left, found = less_others(whole, each, known, range(len(group)))
            into.extend(x * x for turns in left for x in turns)
        met += [one for turns in found for one in turns]
    return fmean(met), fmean(squares[0]), fmean(squares[1])


if __name__ == "__main__":
    main()
