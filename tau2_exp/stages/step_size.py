"""How many groups a step of GRPO begins: a number of tasks, or as many as its sampled tokens allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tau2_exp.config import GrpoConfig
from tau2_exp.types import Trajectory

SLACK = 0.01  # of a run's tokens: what it may miss its total by without more ado


@dataclass(frozen=True, slots=True)
class Played:
    """What a step has played so far."""

    draws: int = 0  # times that tasks were drawn
    groups: float = 0  # finished, whatever became of them; one of fewer samples counts less
    learned: int = 0  # of them, those with signal
    tokens: int = 0  # sampled by the agent
    newest: int = 0  # of them, those of the last draw


@dataclass(frozen=True, slots=True)
class Draw:
    """How many groups to begin now, none at the end of a step, and what share of its samples each has."""

    groups: int
    share: float = 1.0

    def samples(self, whole: int) -> int:
        """The samples of a group, of `whole` in a whole one: at least 2, which compare with one another."""
        return min(whole, max(2, round(self.share * whole)))


@dataclass(slots=True)
class TaskCount:
    """A step has `tasks` groups with signal, as far as `refill` further draws find them."""

    tasks: int
    refill: int

    def more(self, step: int, so_far: Played) -> Draw:
        """What to begin now."""
        return Draw(self.tasks - so_far.learned if so_far.draws <= self.refill else 0)

    def close(self, so_far: Played) -> None:
        """Note what the ended step has played."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON data."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


@dataclass(slots=True)
class TokenBudget:
    """All steps up to any of them have sampled `per_step` tokens each, as nearly as whole groups allow.

    A step begins as many groups as the mean tokens for one allow, all at once; what it sampled too many or too few is
    the next one's. The mean is the last step's, and with halved weight those of the steps before it: a step of one
    group says little, since tasks differ. The first step has no such mean, and begins one group, then the others. The
    last step begins half of what is left, again and again, since no other makes up for it. Where one group is so large
    that even then the total could be missed by more than SLACK, the last groups have fewer samples.
    """

    per_step: int
    steps: int
    spent: int = 0  # tokens sampled in all steps so far
    tokens: float = 0.0  # sampled in the steps so far, each of half the weight of the next
    groups: float = 0.0  # the same of their groups

    def more(self, step: int, so_far: Played) -> Draw:
        """What to begin now. `step` counts from 0; every step has a group."""
        groups, least = self.groups + so_far.groups, 0 if so_far.draws else 1
        mean = (self.tokens + so_far.tokens) / groups if groups else 0.0
        last = step == self.steps - 1
        if so_far.draws and (not so_far.newest or (self.tokens and not last)):  # without tokens all are faulted
            return Draw(0)
        if not mean:
            return Draw(1)
        left, slack = self.per_step * (step + 1) - self.spent - so_far.tokens, SLACK * self.per_step * self.steps
        if last and left < 2 * mean and mean / 2 > slack:
            return Draw(1 if left > slack else least, max(left, 0) / 2 / mean)
        count = round(left / mean)
        return Draw(max((count + 1) // 2 if last else count, least))

    def close(self, so_far: Played) -> None:
        """Note what the ended step has played."""
        self.spent += so_far.tokens
        self.tokens = self.tokens / 2 + so_far.tokens
        self.groups = self.groups / 2 + so_far.groups

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON data."""
        return {"spent": self.spent, "tokens": self.tokens, "groups": self.groups}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; one of an earlier version has the mean alone, which is taken for one group's."""
        self.spent, mean = state["spent"], state.get("per_group", 0.0)
        self.tokens, self.groups = state.get("tokens", mean), state.get("groups", float(mean > 0))


def step_size(stage: GrpoConfig) -> TaskCount | TokenBudget:
    """The size of the stage's steps. Raises ValueError where none is set."""
    if stage.sampled_tokens is not None:
        return TokenBudget(stage.sampled_tokens, stage.steps)
    if stage.prompts_per_step is None:
        raise ValueError("neither prompts_per_step nor sampled_tokens is set")
    return TaskCount(stage.prompts_per_step, stage.refill)


def sampled_tokens(trajectories: Iterable[Trajectory]) -> int:
    """The tokens that the agent sampled in these episodes, those of attempts that faults ended included."""
    return sum(trajectory.policy_usage.completion_tokens for trajectory in trajectories)
