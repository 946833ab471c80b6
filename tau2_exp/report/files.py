"""The report as CSV, one file a table, and all of it as JSON."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tau2_exp.jsonl import write_json
from tau2_exp.report.failures import Failure, Failures
from tau2_exp.report.findings import Findings, Score
from tau2_exp.report.reference import PUBLISHED
from tau2_exp.report.trials import Missing, Trial
from tau2_exp.statistics import Estimate
from tau2_exp.system.ours import note, refuse_strangers

Rows = list[dict[str, Any]]
TABLES = ("scores", "comparisons", "curves", "failures", "costs", "credit")
FILES = (*(f"{name}.csv" for name in TABLES), "report.json")


def write_files(findings: Findings, failed: Sequence[tuple[Score, Failures]], folder: Path) -> list[Path]:
    """Write a CSV file for each of TABLES, and report.json, which holds all of them; returns their paths.

    Raises ConfigError where one of these exists and was not made by us.
    """
    tables = {
        "scores": _score_rows(findings),
        "comparisons": _comparison_rows(findings),
        "curves": _curve_rows(findings),
        "failures": _failure_rows(failed),
        "costs": [dataclasses.asdict(cost) for cost in findings.costs],
        "credit": [dataclasses.asdict(distance) for distance in findings.distances],
    }
    refuse_strangers(folder, FILES, "report")
    folder.mkdir(parents=True, exist_ok=True)
    note(folder, FILES)
    for name, rows in tables.items():
        _write_csv(folder / f"{name}.csv", rows)
    published = [dataclasses.asdict(row) for row in PUBLISHED]
    write_json(folder / "report.json", tables | {"published": published, "problems": findings.collection.problems})
    return [folder / name for name in FILES]


def _score_rows(findings: Findings) -> Rows:
    return [
        _trial(score.trial)
        | {"stage": score.subject.stage, "arm": score.subject.arm, "measure": name}
        | _measured(value)
        | {"settings": " ".join(f"{k}={v}" for k, v in score.subject.values.items())}
        for score in findings.scores
        for name, value in score.measures.items()
    ]


def _comparison_rows(findings: Findings) -> Rows:
    rows: Rows = []
    for family in findings.families:
        common = _trial(family.trial) | {"family": family.title, "measure": family.measure}
        for (a, b), c in family.comparisons.items():
            rows.append(
                common
                | {"a": a, "b": b, "compared": c.compared}
                | {"difference": c.difference.value, "low": c.difference.low, "high": c.difference.high}
                | {"low_corrected": c.low_corrected, "high_corrected": c.high_corrected}
                | {"p": c.p, "p_corrected": c.p_corrected, "detectable": c.detectable}
                | {"superiority": c.superiority.value}
                | {"superiority_low": c.superiority.low, "superiority_high": c.superiority.high}
                | {"seeds": c.difference.seeds, "same_seeds": c.same_seeds, "pooled_over": c.pooled}
                | {"rank_of_a": "–".join(map(str, family.ranks.get(a, ())))}
                | {"rank_of_b": "–".join(map(str, family.ranks.get(b, ())))}
            )
    return rows


def _curve_rows(findings: Findings) -> Rows:
    return [
        {"stage": course.stage, "where": course.where, "arm": arm, "seed": seed, "step": line["step"]}
        | {name: line.get(name) for name in course.panels}
        for course in findings.courses
        for arm, seeds in course.arms.items()
        for seed, lines in seeds.items()
        for line in lines
    ]


def _failure_rows(failed: Sequence[tuple[Score, Failures]]) -> Rows:
    return [
        _trial(score.trial)
        | {"stage": score.subject.stage, "arm": score.subject.arm}
        | {"missing": " ".join(map(str, found.missing))}
        | (_counts(found) if found.episodes else {})
        for score, found in failed
    ]


def _counts(found: Failures) -> dict[str, int]:
    return (
        {"episodes": found.episodes, "unsolved": found.unsolved, "unscored": found.unscored}
        | {mode.name.lower(): found.modes[mode] for mode in Failure}
        | {f"stop_{stop}": count for stop, count in sorted(found.stops.items())}
    )


def _trial(trial: Trial) -> dict[str, Any]:
    plan = trial.plan
    return {
        "domain": trial.domain,
        "split": trial.split,
        "plan": trial.note,
        "user": plan["user"],
        "provider": plan["provider"],
        "revision": plan["revision"],
        "samples": trial.samples,
        "temperature": plan["stage.temperature"],
        "do_nothing": trial.nothing and trial.nothing.value,
    }


def _measured(value: Estimate | Missing) -> dict[str, Any]:
    if isinstance(value, Missing):
        return dict.fromkeys(("value", "low", "high", "tasks", "seeds")) | {"missing": value.samples}
    return dataclasses.asdict(value) | {"missing": 0}


def _write_csv(path: Path, rows: Rows) -> None:
    """Every column that any row has, in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
