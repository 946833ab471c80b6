"""What is left to do for a set of runs, cut into tasks that can go side by side.

A task is done by one process. What several runs of a sweep need is one task, done once, before theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tau2_exp.dispatch.step import Step
from tau2_exp.runs.run import Run


@dataclass
class Task:
    """Runs to be done one after another, for the targets (by their place) that need them."""

    targets: tuple[int, ...]
    runs: list[Run] = field(default_factory=list)
    needs: list[Task] = field(default_factory=list)


@dataclass(frozen=True)
class Demand:
    """A step to be done, and the targets (by their place) that need it."""

    step: Step
    targets: tuple[int, ...]


def unfinished(targets: Sequence[Step]) -> dict[str, Demand]:
    """What is left to do for frozen targets, by address; parents come before children."""
    steps: dict[str, Step] = {}
    places: dict[str, list[int]] = {}
    for place, target in enumerate(targets):
        for step in target.lineage():
            if not step.finished:
                steps[step.address] = step
                places.setdefault(step.address, []).append(place)
    return {address: Demand(step, tuple(places[address])) for address, step in steps.items()}


def make_tasks(targets: Sequence[Step]) -> list[Task]:
    """The unfinished steps of frozen targets, grouped by which targets need them; parents come before children."""
    left = unfinished(targets)
    tasks: dict[tuple[int, ...], Task] = {}
    for demand in left.values():
        task = tasks.setdefault(demand.targets, Task(demand.targets))
        assert demand.step.run is not None
        task.runs.append(demand.step.run)
        for needed in demand.step.needs:
            if needed.address in left and (other := tasks[left[needed.address].targets]) is not task:
                task.needs.append(other)
    return list(tasks.values())
