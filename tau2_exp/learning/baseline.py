"""What a turn is compared with: the group's other episodes, or those of them that were in the same state."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tau2_exp.learning.states import State, by_state

NOTHING = 1e-9  # numbers smaller than this are rounding


def less_others(
    totals: Sequence[float | None],
    turns: Sequence[Sequence[float]],
    states: Sequence[Sequence[State]] | None,
    families: Sequence[int],
) -> tuple[list[tuple[float, ...]], list[tuple[bool, ...]]]:
    """Each turn's number less the mean of the *other* episodes', and whether another one began in the same state.

    `turns[i][t]` is the number of turn t of episode i, `totals[i]` that of the episode as a whole (None: it has none),
    `states[i][t]` the state that the turn began in; without states no turn has a state in common with another. An
    other episode counts once, by the mean of its turns in that state, or by its total where no other one was there.
    Episodes of one family share turns, so that none is another's baseline. What has nothing to be compared with is 0.

    Such a baseline follows from the state alone, so that the gradient stays unbiased (Williams 1992, REINFORCE;
    leave-one-out: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free").
    """
    met = _means_by_state(turns, states) if states is not None else {}
    everyone = {i: total for i, total in enumerate(totals) if total is not None}
    credit, matched = [], []
    for i, numbers in enumerate(turns):
        others = _mean_of_others(everyone, i, families)
        own, found = [], []
        for t, number in enumerate(numbers):
            there = _mean_of_others(met[states[i][t]], i, families) if states is not None else None
            baseline = others if there is None else there
            own.append(0.0 if baseline is None else rounded(number - baseline))
            found.append(there is not None)
        credit.append(tuple(own))
        matched.append(tuple(found))
    return credit, matched


def _means_by_state(
    turns: Sequence[Sequence[float]], states: Sequence[Sequence[State]]
) -> dict[State, dict[int, float]]:
    """State → episode → the mean number of its turns that began there."""
    means: dict[State, dict[int, float]] = {}
    for state, places in by_state(states).items():
        numbers: dict[int, list[float]] = {}
        for i, t in places:
            numbers.setdefault(i, []).append(turns[i][t])
        means[state] = {i: fmean(found) for i, found in numbers.items()}
    return means


def _mean_of_others(numbers: dict[int, float], own: int, families: Sequence[int]) -> float | None:
    others = [number for i, number in numbers.items() if families[i] != families[own]]
    return fmean(others) if others else None


def rounded(number: float) -> float:
    """The number, or 0 where it is rounding alone."""
    return 0.0 if abs(number) < NOTHING else number
