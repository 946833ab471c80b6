"""Which task next, and how much its advantages count. Its state is saved with a checkpoint."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from typing import Any

from tau2_exp import interfaces
from tau2_exp.config import CurriculumConfig, CurriculumKind
from tau2_exp.plugins import PluginError, in_one_line, make
from tau2_exp.types import SOLVED, stable_seed

_FLOOR = 0.05  # adaptive: added to p(1 − p), so that no task is never seen again


def make_curriculum(task_keys: Sequence[str], config: CurriculumConfig, seed: int) -> interfaces.Curriculum:
    """The curriculum that the configuration names. Raises PluginError where the user's own is none."""
    if config.function is None:
        return Curriculum(task_keys, config, seed)
    return CustomCurriculum(config.function, task_keys, config, seed)


class Curriculum:
    """`none` and `reference` go through all tasks in shuffled epochs; `adaptive` draws by solved fraction.

    `reference` weighs a task's advantages by its solved fraction: less where it is mostly solved or mostly failed.
    `adaptive` draws tasks in proportion to p(1 − p) + a floor, p the solved fraction with exponential memory, since a
    group's signal is the variance of its outcomes. Every draw is seeded by its number, so that a restored
    curriculum goes on as the saved one would have.
    """

    def __init__(self, task_keys: Sequence[str], config: CurriculumConfig, seed: int):
        if not task_keys or len(set(task_keys)) != len(task_keys):
            raise ValueError("a curriculum needs tasks, each of them once")
        self.keys, self.config, self.seed = tuple(task_keys), config, seed
        self.draws = 0
        self.queue: list[str] = []  # what is left of the epoch
        self.attempts = dict.fromkeys(self.keys, 0)
        self.solved = dict.fromkeys(self.keys, 0.0)
        self.fraction = dict.fromkeys(self.keys, 0.5)  # with exponential memory

    def draw(self, n: int, exclude: Collection[str] = ()) -> list[str]:
        """`n` tasks. Those in `exclude` (drawn before in this step) come once no others are left, then repeats."""
        drawn: list[str] = []
        taken = set(exclude)
        while len(drawn) < n:
            if taken.issuperset(self.keys):
                taken = set() if set(drawn).issuperset(self.keys) else set(drawn)
            rng = random.Random(stable_seed(self.seed, "curriculum", self.draws))
            self.draws += 1
            pick = self._pick_adaptive if self.config.kind is CurriculumKind.adaptive else self._pick_epoch
            drawn.append(pick(rng, taken))
            taken.add(drawn[-1])
        return drawn

    def record(self, key: str, solved: Sequence[float]) -> None:
        """Note the outcomes of attempts at a task; 1 is solved, anything below is not. Faults may have left none."""
        if not solved:
            return
        wins = sum(outcome >= SOLVED for outcome in solved)
        self.attempts[key] += len(solved)
        self.solved[key] += wins
        kept = (1.0 - self.config.memory) ** len(solved)
        self.fraction[key] = kept * self.fraction[key] + (1.0 - kept) * wins / len(solved)

    def weight(self, key: str) -> float:
        """The factor on the task's advantages; 1 except under `reference`."""
        config, attempts = self.config, self.attempts[key]
        if config.kind is not CurriculumKind.reference or attempts < config.attempts:
            return 1.0
        fraction = self.solved[key] / attempts
        if fraction > config.easy_above:
            return config.easy_weight
        return config.hard_weight if fraction < config.hard_below else 1.0

    def state(self) -> dict[str, Any]:
        """Everything that changes, as JSON data."""
        tasks = {key: [self.attempts[key], self.solved[key], self.fraction[key]] for key in self.keys}
        return {"draws": self.draws, "queue": list(self.queue), "tasks": tasks}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. Raises ValueError where it is of other tasks."""
        if set(state["tasks"]) != set(self.keys):
            raise ValueError("the saved curriculum is of other tasks")
        self.draws, self.queue = state["draws"], list(state["queue"])
        for key, (attempts, solved, fraction) in state["tasks"].items():
            self.attempts[key], self.solved[key], self.fraction[key] = attempts, solved, fraction

    def _pick_epoch(self, rng: random.Random, taken: Collection[str]) -> str:
        """The next task of the epoch; one taken before stays in line for a later step."""
        if all(key in taken for key in self.queue):
            self.queue += rng.sample(self.keys, len(self.keys))
        return self.queue.pop(next(i for i, key in enumerate(self.queue) if key not in taken))

    def _pick_adaptive(self, rng: random.Random, taken: Collection[str]) -> str:
        free = [key for key in self.keys if key not in taken]
        weights = [self.fraction[key] * (1.0 - self.fraction[key]) + _FLOOR for key in free]
        return rng.choices(free, weights)[0]


class CustomCurriculum:
    """A user's own curriculum. An error that it raises, or a draw of unknown keys, becomes a PluginError."""

    def __init__(self, path: str, task_keys: Sequence[str], config: CurriculumConfig, seed: int):
        self._given, self._keys = f"curriculum.function={path}", frozenset(task_keys)
        self._own = make("curriculum.function", path, tuple(task_keys), config, seed)

    def draw(self, n: int, exclude: Collection[str] = ()) -> list[str]:
        """Draw `n` keys. Raises PluginError where it returns another number of them, or unknown ones."""
        drawn = list(self._ask("draw", n, exclude))
        if len(drawn) != n or not self._keys.issuperset(drawn):
            raise PluginError(
                f"{self._given}: draw({n}) returned {drawn}; it must return {n} of the keys it was made with"
            )
        return drawn

    def record(self, key: str, outcomes: Sequence[float]) -> None:
        """Pass on the outcomes of a group of this task."""
        self._ask("record", key, outcomes)

    def weight(self, key: str) -> float:
        """The factor on the task's advantages."""
        return float(self._ask("weight", key))

    def state(self) -> dict[str, Any]:
        """A copy of its state. Raises PluginError where that is no JSON object."""
        state: dict[str, Any] = self._ask("state")
        try:
            return dict(json.loads(json.dumps(state)))  # a copy: the user's own goes on changing
        except (TypeError, ValueError) as error:
            raise PluginError(f"{self._given}: state() is no JSON object: {error}") from None

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._ask("restore", state)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._own, method)(*arguments)
        except Exception as error:
            raise PluginError(f"{self._given}: {method} raised {in_one_line(error)}") from error
