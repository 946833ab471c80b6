"""Learning curves: a stage's figures step by step, of each arm, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tau2_exp.report.collect import Collection
from tau2_exp.report.trials import Found

PANELS = {  # by stage: what is drawn, where it was recorded
    "grpo": (
        "eval/outcome",
        "outcome",
        "shaped",
        "partial",
        "part/action",
        "part/env_assertion",
        "part/communicate",
        "part/db",
        "part/db_progress",
        "credit_share",
        "credit_sign",
        "credit_matched",
    ),
    "sft": ("loss",),
    "rft": ("loss",),
}


@dataclass(frozen=True)
class Band:
    """One arm's curve: at each step that all its seeds have reached, their mean, the lowest and the highest."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int


@dataclass
class Course:
    """The training runs of one stage on the same tasks with the same user, by arm and seed."""

    stage: str
    where: str
    arms: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)  # arm → seed → metrics

    @property
    def title(self) -> str:
        """The stage, the domains and the user, as a heading."""
        return f"{self.stage}, {self.where}"

    @property
    def panels(self) -> list[str]:
        """The metrics of this stage in PANELS that any of its runs recorded."""
        recorded = {name for seeds in self.arms.values() for lines in seeds.values() for line in lines for name in line}
        return [name for name in PANELS[self.stage] if name in recorded]

    def band(self, arm: str, name: str) -> Band:
        """The smoothed curve of one metric of an arm, over the steps that all its seeds have reached."""
        by_seed = [_column(lines, name) for lines in self.arms[arm].values()]
        steps = sorted(set.intersection(*(set(column) for column in by_seed)))
        values = [smooth([column[step] for step in steps]) for column in by_seed]
        at = list(zip(*values, strict=True))
        return Band(
            tuple(steps),
            tuple(sum(v) / len(v) for v in at),
            tuple(min(v) for v in at),
            tuple(max(v) for v in at),
            len(by_seed),
        )


def courses(collection: Collection) -> list[Course]:
    """The training runs with metrics, by stage and place; stages come in the order of PANELS."""
    found: dict[tuple[str, str], Course] = {}
    for one in collection.runs:
        if one.run.stage in PANELS and (lines := one.run.metrics()):
            course = found.setdefault((one.run.stage, _where(one)), Course(one.run.stage, _where(one)))
            course.arms.setdefault(one.arm, {})[one.seed] = lines
    order = list(PANELS)
    for course in found.values():
        course.arms = dict(sorted(course.arms.items()))
    return sorted(found.values(), key=lambda course: (order.index(course.stage), course.where))


def window(steps: int) -> int:
    """How many steps a point of a curve is the mean of: a twentieth of all."""
    return max(1, steps // 20)


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and the `window` − 1 before it; fewer at the start."""
    width = window(len(values))
    return [sum(values[max(0, i + 1 - width) : i + 1]) / min(width, i + 1) for i in range(len(values))]


def _where(found: Found) -> str:
    config = found.run.config
    names = "+".join(config.domain.names)
    if found.run.stage == "sft":
        return names
    user = " ".join(part for part in (config.user.kind.value, config.user.model or config.user.serve) if part)
    return f"{names} {config.domain.train_split}, user: {user}"


def _column(lines: Sequence[Mapping[str, Any]], name: str) -> dict[int, float]:
    return {line["step"]: line[name] for line in lines if line.get(name) is not None}
