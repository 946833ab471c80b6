"""The groups of episodes that slime was handed: what is under way, what has ended, and what the curriculum learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from tau2_exp.engines.slime.hooks.samples import Episode
from tau2_exp.interfaces import Curriculum


@dataclass(slots=True)
class _Open:
    key: str
    episodes: dict[int, Episode] = field(default_factory=dict)  # by sample index


class Groups:
    """Hands out tasks and takes episodes back. A group of `size` has ended once all its episodes have.

    The curriculum records every group when it ends, whether it is then trained on or not, so that solved fractions are
    not those of the groups with signal alone. Groups are handed out on one thread and read on another.
    """

    def __init__(self, curriculum: Curriculum, size: int):
        self.curriculum, self.size = curriculum, size
        self.handed = 0  # ever: the next group's index
        self.episodes = 0  # of the groups told by `step`
        self.rejected = 0  # groups the filter refused in this step
        self._drawn: list[str] = []  # tasks handed out in this step
        self._waiting: list[str] = []  # tasks whose group slime dropped unfinished
        self._open: dict[int, _Open] = {}
        self._ended: dict[int, list[Episode]] = {}
        self._untrained = 0  # groups that ended and have been in no step
        self._lock = Lock()

    @property
    def progress(self) -> int:
        """Groups handed out in this step that the filter has not refused."""
        return len(self._drawn) - self.rejected

    @property
    def outstanding(self) -> int:
        """Groups handed out that have been in no step: under way, or waiting for one."""
        return len(self._open) + self._untrained

    def draw(self, count: int) -> list[tuple[int, str]]:
        """Group index and task of the next groups; those that were dropped come first."""
        with self._lock:
            again, self._waiting = self._waiting[:count], self._waiting[count:]
            under_way = [group.key for group in self._open.values()]
            keys = again + self.curriculum.draw(count - len(again), [*under_way, *self._drawn, *again])
            drawn = list(enumerate(keys, start=self.handed))
            self._open |= {index: _Open(key) for index, key in drawn}
            self.handed += count
            self._drawn += keys
            return drawn

    def note(self, group: int, index: int, episode: Episode) -> None:
        """One episode has ended; what belongs to no open group (an evaluation, a group dropped) is not noted."""
        with self._lock:
            if group not in self._open:
                return
            self._open[group].episodes[index] = episode
            if len(self._open[group].episodes) < self.size:
                return
            ended = self._open.pop(group)
            self._ended[group] = [ended.episodes[i] for i in sorted(ended.episodes)]
            outcomes = [e.reward.outcome for e in self._ended[group] if e.reward is not None]
            if outcomes:
                self.curriculum.record(ended.key, outcomes)
            self._untrained += 1

    def step(self, trained: int, drop: bool) -> list[list[Episode]]:
        """The groups that ended since the last step, in the order they were handed out.

        `trained` is how many slime trains on now. `drop`: it has dropped those that it does not, and those that are
        still open, whose tasks wait to be handed out again.
        """
        with self._lock:
            ended, self._ended = [group for _, group in sorted(self._ended.items())], {}
            if drop:
                self._waiting += [group.key for _, group in sorted(self._open.items())]
                self._open = {}
            self._untrained = 0 if drop else self._untrained - trained
            self._drawn, self.rejected = [], 0
            self.episodes += sum(map(len, ended))
            return ended

    def state(self) -> dict[str, Any]:
        """All that a restart needs, as JSON data. A restart loses what is under way: those tasks wait again."""
        with self._lock:
            under_way = [group.key for _, group in sorted(self._open.items())]
            return {
                "curriculum": self.curriculum.state(),
                "waiting": [*self._waiting, *under_way],
                "handed": self.handed,
                "episodes": self.episodes,
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError where it is of other tasks."""
        with self._lock:
            self.curriculum.restore(state["curriculum"])
            self._waiting = list(state["waiting"])
            self.handed, self.episodes = state["handed"], state["episodes"]


def scored(groups: Sequence[Sequence[Episode]]) -> list[Episode]:
    """The episodes of these groups that have a reward: no fault but the agent's ended them."""
    return [episode for group in groups for episode in group if episode.reward is not None]
