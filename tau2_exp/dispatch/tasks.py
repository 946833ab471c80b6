"""What is left to do for a set of runs, cut into tasks that can go side by side.

A task is done by one process. What several runs of a sweep need is one task, done once, before theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tau2_exp.dispatch.plan import Step
from tau2_exp.rundir import Run


@dataclass
class Task:
    """Runs to be done one after another, for the targets (by their place) that need them."""

    targets: tuple[int, ...]
    runs: list[Run] = field(default_factory=list)
    needs: list[Task] = field(default_factory=list)


def make_tasks(targets: Sequence[Step]) -> list[Task]:
    """The unfinished steps of frozen targets, grouped by which targets need them; parents stand before children."""
    users: dict[str, list[int]] = {}
    steps: dict[str, Step] = {}
    for place, target in enumerate(targets):
        for step in target.lineage():
            if not step.finished:
                steps[step.address] = step
                users.setdefault(step.address, []).append(place)
    tasks: dict[tuple[int, ...], Task] = {}
    for address, step in steps.items():
        places = tuple(users[address])
        task = tasks.setdefault(places, Task(places))
        assert step.run is not None
        task.runs.append(step.run)
        for needed in step.needs:
            if needed.address in users and (other := tasks[tuple(users[needed.address])]) is not task:
                task.needs.append(other)
    return list(tasks.values())
