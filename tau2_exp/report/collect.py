"""Folders → runs, arms and trials: any mix of runs, pipelines, sweeps and folders of them, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.evaluation.plan import PLAN, read_plan
from tau2_exp.evaluation.standing import standing
from tau2_exp.report.arms import (
    Values,
    arm_label,
    differing_settings,
    lineage,
    making,
    policy_label,
    seed_name,
)
from tau2_exp.report.trials import Found, Trial, find_trials
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.system.code import run_command
from tau2_exp.system.quoting import setting


@dataclass(frozen=True)
class Collection:
    """The runs and trials found in some folders."""

    runs: tuple[Found, ...]
    trials: tuple[Trial, ...]
    problems: tuple[str, ...]  # runs that could not be read, are not finished, or that no other run goes on from

    def of(self, run: Run) -> Found:
        """The entry of a run of this collection, found by its folder."""
        return next(found for found in self.runs if found.run.folder == run.folder)


def collect(paths: Sequence[Path]) -> Collection:
    """Everything in these folders, and what it depends on. Raises ConfigError where one of them holds no run."""
    problems: list[str] = []
    runs = _readable(_unique([folder for path in paths for folder in _folders_of(path)], problems), problems)
    gone = _gone(runs)
    problems += [f"unknown: {run.folder}: is gone; it is told from what later runs hold of it" for run in gone]
    found, above = _place(runs, gone)
    problems += _unfinished(found)
    problems += _unevaluated(found)
    trials = find_trials(found, above)
    problems += [line for trial in trials for line in trial.left_out]
    return Collection(tuple(found), tuple(trials), tuple(dict.fromkeys(problems)))


# ---------------------------------------------------------------- which runs


def _folders_of(path: Path) -> list[Path]:
    from tau2_exp.dispatch.local.sweep import read_sweep, sweep_folders

    if (path / "sweep.json").is_file():
        return sweep_folders(path, read_sweep(path))
    if (path / "manifest.json").is_file():
        return [path]
    inside = sorted(file.parent for file in path.glob("[!.]*/manifest.json"))
    if not inside:
        raise ConfigError(f"{path}: holds no run and no sweep; give run folders, sweeps, or a folder of them")
    return inside


def _unique(folders: Sequence[Path], problems: list[str]) -> list[Run]:
    """With members and parents; of runs of one address the finished one, else the newest. What is gone is left out."""
    by_address: dict[str, Run] = {}
    waiting = list(folders)
    seen: set[Path] = set()
    while waiting:
        folder = waiting.pop(0)
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            run = Run.open(folder)
            before = by_address.get(run.manifest.address)
            if before is None or before.status is not RunStatus.finished:
                by_address[run.manifest.address] = run
            needs = [*run.members, *([run.parent] if run.parent else [])]
            waiting += [need.folder for need in needs if need.status is not RunStatus.unknown]
        except ConfigError as error:
            problems.append(f"skipped: {error}")
    return sorted(by_address.values(), key=lambda run: (run.manifest.created, str(run.folder)))


def _gone(runs: Sequence[Run]) -> list[Run]:
    """The ancestors of these runs whose folders are gone."""
    found = {one.manifest.address: one for run in runs for one in lineage(run) if one.status is RunStatus.unknown}
    return list(found.values())


def _readable(runs: Sequence[Run], problems: list[str]) -> list[Run]:
    kept = []
    for run in runs:
        try:
            for one in lineage(run):
                making(one)
            if run.status is RunStatus.finished:
                _ = run.results
            run.metrics()
            kept.append(run)
        except ConfigError as error:
            problems.append(f"skipped: {error}")
    return kept


def _place(runs: Sequence[Run], gone: Sequence[Run]) -> tuple[list[Found], list[Found]]:
    """Each run with its arm among the runs of its stage. A pipeline is no arm: its members are."""
    values: dict[str, Values] = {}  # by address
    known = [*runs, *gone]
    for kind in dict.fromkeys(map(_kind, known)):
        alike = [run for run in known if _kind(run) == kind]
        values |= zip(
            (run.manifest.address for run in alike), differing_settings([making(run) for run in alike]), strict=True
        )
    return [_found(run, values) for run in runs], [_found(run, values) for run in gone]


def _kind(run: Run) -> tuple[str, bool]:
    """Runs are compared within a kind: their stage, and for evaluations whether the model was trained here."""
    return run.stage, run.stage == "eval" and run.parent is not None


def _found(run: Run, values: dict[str, Values]) -> Found:
    own = values[run.manifest.address]
    if run.stage != "eval":
        return Found(run, run.stage, arm_label(own), own, seed_name(run))
    if run.parent:
        made = values.get(run.parent.manifest.address, {})
        clear = {f"eval.{key}" if made.get(key, value) != value else key: value for key, value in own.items()}
        own = made | clear
        return Found(run, run.parent.stage, arm_label(own), own, seed_name(run))
    name = policy_label(run)
    own = {key: value for key, value in own.items() if value not in name}
    return Found(run, " ".join(name), arm_label(own), own, seed_name(run))


def _so_far(run: Run) -> str:
    """How much of it is done, where that is recorded."""
    if not (run.folder / PLAN).exists():
        progress = run.progress
        return f": {progress.label} {progress.done} of {progress.total}" if progress else ""
    plan = read_plan(run.folder)
    wanted = sum(map(len, plan.files.values()))
    try:
        played = sum(len(standing(run.trajectories(name))) for name in plan.files)
    except ValueError as error:
        return f": {error}"
    return f": {played} of {wanted} episodes done"


def _unfinished(runs: Sequence[Found]) -> list[str]:
    """A line for each run that says how far it is, one per arm for the others. Pipelines are listed only if failed."""
    told: list[str] = []
    waiting: dict[str, list[str]] = {}  # what → its seeds
    for found in runs:
        run, status = found.run, found.run.status
        if status is RunStatus.finished or (status is not RunStatus.failed and run.stage == "pipeline"):
            continue
        why = f": {run.failure}" if status is RunStatus.failed else _so_far(run)
        what = run.stage if run.stage == found.stage else f"{run.stage} of {found.stage}"
        name = " ".join(part for part in (what, found.arm) if part)
        if status is RunStatus.unfinished and not why:
            waiting.setdefault(name, []).append(found.seed)
        else:
            told.append(f"{status.value}: {name} seed {found.seed} ({run.folder}){why}")
    return told + [
        f"{RunStatus.unfinished.value}: {name}, seed {', '.join(sorted(seeds))}"
        for name, seeds in sorted(waiting.items())
    ]


def _unevaluated(runs: Sequence[Found]) -> list[str]:
    """A line for each trained model that nothing here evaluates or trains on, with the command that evaluates it."""
    parents = {found.run.parent.manifest.address for found in runs if found.run.parent}
    return [
        f"not evaluated: {' '.join(part for part in (found.stage, found.arm) if part)} seed {found.seed}: "
        f"{run_command()} stage=eval {setting('parent', found.run.folder)}"
        for found in runs
        if "model" in _results(found.run) and found.run.manifest.address not in parents
    ]


def _results(run: Run) -> dict[str, Any]:
    return run.results if run.status is RunStatus.finished else {}
