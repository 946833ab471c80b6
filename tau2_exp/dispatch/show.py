"""What a person sees of a plan, and of a sweep on its way."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.live import Live
from rich.table import Table

from tau2_exp.config import EvalConfig, GrpoConfig, RewardKind
from tau2_exp.dispatch.local import Job, State
from tau2_exp.dispatch.plan import Step
from tau2_exp.rundir import RunStatus

KEY_SETTINGS = ("epochs", "steps", "prompts_per_step", "samples_per_prompt", "batch_size", "lr", "temperature")


def plan_lines(target: Step) -> list[str]:
    """One line a run: stage, what becomes of it, its folder where there is one, its key settings."""
    return [
        f"  {step.stage:9}{_fate(step):10}{_where(step):44}  {_settings(step)}".rstrip() for step in target.lineage()
    ]


def _fate(step: Step) -> str:
    if step.run is None or step.fresh:
        return "to make"
    return {RunStatus.finished: "found", RunStatus.running: "running"}.get(step.run.status, "to go on")


def _where(step: Step) -> str:
    return str(step.run.folder) if step.run else f"{step.config.outputs}/{step.name or f'…-{step.address[:8]}'}"


def _settings(step: Step) -> str:
    config, stage = step.config, step.config.stage
    shown = [f"{key}={getattr(stage, key)}" for key in KEY_SETTINGS if hasattr(stage, key)]
    if isinstance(stage, GrpoConfig):
        shown.append(f"reward={config.reward.kind.value}")
        if config.reward.kind is not RewardKind.outcome:
            shown.append(f"alpha={config.reward.alpha}")
    if isinstance(stage, EvalConfig):
        shown.append(f"splits={','.join(config.domain.eval_splits)} policy={config.policy.kind.value}")
    return " ".join(shown)


class SweepBoard:
    """A live table where there is a terminal, else a line each time something changes."""

    def __init__(self, titles: Mapping[int, str], jobs: Sequence[Job]) -> None:
        self._titles = titles
        self._jobs = jobs
        self._told: dict[int, State] = {}
        self._live = Live(self._table(), refresh_per_second=2) if sys.stdout.isatty() else None

    def __enter__(self) -> SweepBoard:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def update(self) -> None:
        if self._live:
            self._live.update(self._table())
            return
        for job in self._jobs:
            if job.state is not State.waiting and self._told.get(id(job)) is not job.state:
                self._told[id(job)] = job.state
                print(f"{job.state.value:9}{self._titles[id(job)]}  {self._detail(job)}".rstrip(), flush=True)

    def _table(self) -> Table:
        table = Table("job", "state", "stage", "time", box=None)
        for job in self._jobs:
            table.add_row(self._titles[id(job)], job.state.value, _stage(job), f"{job.seconds:.0f} s")
        return table

    def _detail(self, job: Job) -> str:
        return f"log {job.log}" if job.state is State.running else f"{job.seconds:.0f} s"


def _stage(job: Job) -> str:
    """The stage being done: the first of the task's that is not finished."""
    if job.state is not State.running:
        return ""
    return next((run.stage for run in job.task.runs if run.status is not RunStatus.finished), "")
