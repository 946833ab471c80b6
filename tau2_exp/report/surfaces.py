"""Sweep surfaces: a measure over two settings that were swept, one for each choice of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tau2_exp.report.arms import Values, arm_label
from tau2_exp.report.trials import Measured, Subject, Trial
from tau2_exp.statistics import Estimate

ALPHA, KIND = "alpha", "kind"


@dataclass(frozen=True)
class Surface:
    """A measure over two swept settings. A cell is None where no arm has its values."""

    trial: Trial
    stage: str
    measure: str
    across: str  # the setting of the columns
    down: str  # of the rows
    facet: str  # the other settings, in words
    columns: tuple[float, ...]
    rows: tuple[float, ...]
    cells: tuple[tuple[Measured | None, ...], ...]  # [row][column]


def surfaces(trial: Trial, measure: str = "pass@1") -> list[Surface]:
    """The surfaces of each two numeric settings of which the arms have at least two values each.

    An arm that learns from the outcome alone is alpha 0 of every other kind of reward.
    """
    found = []
    for stage in dict.fromkeys(subject.stage for subject in trial.subjects):
        arms = [(s, s.values) for s in trial.subjects if s.stage == stage]
        numeric = _numeric([values for _, values in arms])
        for across, down in combinations(numeric, 2):
            for facet, points in _facets(arms, across, down).items():
                if surface := _surface(trial, stage, measure, across, down, facet, points):
                    found.append(surface)
    return found


def scale(found: Sequence[Surface]) -> tuple[float, float]:
    """The lowest and the highest value of all, for colours that mean the same in each."""
    cells = [cell for surface in found for row in surface.cells for cell in row]
    values = [cell.value for cell in cells if isinstance(cell, Estimate)] or [0.0, 1.0]
    return min(values), max(values)


Point = tuple[float, float, Subject]
Others = tuple[tuple[str, Any], ...]


def _numeric(arms: Sequence[Values]) -> list[str]:
    """The settings that are numbers, alpha first."""
    names = sorted({name for values in arms for name in values}, key=lambda name: (name != ALPHA, name))
    return [name for name in names if all(_is_number(values.get(name, 0)) for values in arms)]


def _facets(arms: Sequence[tuple[Subject, Values]], across: str, down: str) -> dict[str, list[Point]]:
    """The arms by their other settings; those of the outcome alone belong to every kind of reward."""
    facets: dict[Others, list[Point]] = {}
    plain: list[tuple[Others, Point]] = []
    for subject, values in arms:
        outcome = values.get(KIND) == "outcome" and ALPHA in (across, down)
        values = {ALPHA: 0.0} | values if outcome else values
        if across not in values or down not in values:
            continue
        others = tuple((n, v) for n, v in values.items() if n not in (across, down) and not (outcome and n == KIND))
        point = (float(values[across]), float(values[down]), subject)
        if outcome:
            plain.append((others, point))
        else:
            facets.setdefault(others, []).append(point)
    for others, point in plain:
        for facet, points in facets.items():
            if tuple(pair for pair in facet if pair[0] != KIND) == others:
                points.append(point)
    return {arm_label(dict(others)): points for others, points in facets.items()}


def _surface(
    trial: Trial, stage: str, measure: str, across: str, down: str, facet: str, points: Sequence[Point]
) -> Surface | None:
    columns, rows = sorted({x for x, _, _ in points}), sorted({y for _, y, _ in points})
    if len(columns) < 2 or len(rows) < 2:
        return None
    at = {(x, y): subject for x, y, subject in points}
    cells = tuple(tuple(at[x, y].measured(measure) if (x, y) in at else None for x in columns) for y in rows)
    return Surface(trial, stage, measure, across, down, facet, tuple(columns), tuple(rows), cells)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
