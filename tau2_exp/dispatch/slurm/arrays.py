"""What is left to do for a set of runs, as arrays of SLURM jobs: one job a run, one array a stage of a sweep.

Element i of an array waits either for its own parents, which are elements i of other arrays (SLURM's aftercorr), or for
what all elements need (afterok). So in a sweep of chains a failed job stops its own chain and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import unfinished


@dataclass(frozen=True, eq=False)
class Array:
    """Steps that are submitted together; one of length one is a plain job."""

    steps: tuple[Step, ...]
    follows: tuple[Array, ...] = ()  # element i needs element i of each
    needs: tuple[Step, ...] = ()  # every element needs all of these


def make_arrays(targets: Sequence[Step], limit: int, queued: Collection[str] = ()) -> list[Array]:
    """The unfinished steps of frozen targets as arrays of at most `limit` jobs, in an order to submit them.

    `queued` are the addresses of steps whose jobs are in the queue already: they can be needed, and are in no array.
    """
    left = {address: demand.step for address, demand in unfinished(targets).items()}
    levels: dict[str, int] = {}
    groups: dict[tuple[int, str, str], list[Step]] = {}
    for address, step in left.items():
        levels[address] = 1 + max((levels[need.address] for need in step.needs if need.address in left), default=-1)
        if address not in queued:
            groups.setdefault((levels[address], step.stage, repr(step.config.hardware)), []).append(step)
    arrays: list[Array] = []
    for key in sorted(groups, key=lambda key: key[0]):
        arrays += _split(groups[key], left, arrays, limit)
    return arrays


def _split(steps: Sequence[Step], left: dict[str, Step], before: Sequence[Array], limit: int) -> Iterator[Array]:
    """One array where the steps' needs allow it, else as few as do."""
    places = {step.address: (array, i) for array in before for i, step in enumerate(array.steps)}
    needs = {step.address: [need.address for need in step.needs if need.address in left] for step in steps}
    users = Counter(address for own in needs.values() for address in own)
    alike: dict[tuple[frozenset[Array], frozenset[str]], list[tuple[tuple[int, ...], Step]]] = {}
    for step in steps:
        own = {need for need in needs[step.address] if users[need] == 1 and need in places}
        key = frozenset(places[need][0] for need in own), frozenset(needs[step.address]) - own
        alike.setdefault(key, []).append((tuple(sorted({places[need][1] for need in own})), step))
    for (follows, shared), members in alike.items():
        common = tuple(left[address] for address in left if address in shared)
        ranked = sorted(members, key=lambda member: member[0])
        if not follows:
            for start in range(0, len(members), limit):
                yield Array(tuple(step for _, step in members[start : start + limit]), (), common)
        elif len(members) > 1 and [index for index, _ in ranked] == [(i,) for i in range(len(members))]:
            yield Array(tuple(step for _, step in ranked), tuple(a for a in before if a in follows), common)
        else:
            for step in (step for _, step in members):
                yield Array((step,), (), tuple(left[address] for address in needs[step.address]))


def waves(arrays: Sequence[Array], at_once: int | None) -> list[list[Array]]:
    """The arrays in order, cut so that one wave has at most `at_once` jobs that could run; None: all are one wave.

    An array alone may be longer: SLURM itself holds it to `at_once`.
    """
    cut: list[list[Array]] = []
    width = 0
    for array in arrays:
        width += len(array.steps)
        if not cut or (at_once is not None and width > at_once):
            cut.append([])
            width = len(array.steps)
        cut[-1].append(array)
    return cut
