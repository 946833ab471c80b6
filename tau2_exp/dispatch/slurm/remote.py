"""A command whose runs are done by SLURM: submit them, say how to follow, and return; or stay, where `wait` is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path

from tau2_exp.config import Config, LauncherKind, SlurmConfig
from tau2_exp.dispatch.following.states import RunState
from tau2_exp.dispatch.following.status import attend
from tau2_exp.dispatch.plan import Step
from tau2_exp.dispatch.slurm.jobs import SlurmJob, Submission, within
from tau2_exp.dispatch.slurm.submit import COMMAND, submit

ON_RESUME = {"wait", "hardware.launcher", *(f"hardware.slurm.{field.name}" for field in fields(SlurmConfig))}


def is_remote(config: Config) -> bool:
    return config.hardware.launcher is LauncherKind.slurm


def send(targets: Sequence[Step], owner: Path, wait: bool) -> int:
    """Submit what is left to do for frozen targets, in the name of `owner`, a run's folder or a sweep's."""
    submission = submit(targets, owner)
    for line in _submitted(submission, owner):
        print(line, flush=True)
    if wait:
        return _attend(targets, owner)
    if all(target.finished for target in targets):
        _close(targets)
    else:
        for action in ("status", "logs --follow", "cancel"):
            print(f"  {COMMAND} {action} {owner}")
    return 0


def change(targets: Sequence[Step], now: Config, given: Sequence[str]) -> None:
    """What a resumed run asks of the cluster is what it asked before, less what was `given` (keys) now."""
    names = [key.removeprefix("hardware.slurm.") for key in given if key.startswith("hardware.slurm.")]
    slurm = {name: getattr(now.hardware.slurm, name) for name in names}
    for step in {step.address: step for target in targets for step in target.lineage()}.values():
        hardware = step.config.hardware
        launcher = now.hardware.launcher if "hardware.launcher" in given else hardware.launcher
        changed = replace(hardware, slurm=replace(hardware.slurm, **slurm), launcher=launcher)
        if changed != hardware and step.run and not step.finished:
            step.config = replace(step.config, hardware=changed)
            step.run.refreeze(step.config)


def _submitted(submission: Submission | None, owner: Path) -> list[str]:
    if submission is None:
        return [f"{owner}: nothing to submit: every run is queued or finished"]
    lines = [f"submitted {len(submission.jobs)} jobs to SLURM, with the code in {within(owner, submission.code)}"]
    for _, group in groupby(submission.jobs, key=lambda job: job.array or job.id):
        lines.append(_array(list(group), owner))
    return lines


def _array(jobs: Sequence[SlurmJob], owner: Path) -> str:
    first = jobs[0]
    after = sorted({job.partition("_")[0] for one in jobs for job in one.after})
    waits = f"  after {', '.join(after)}" if after else ""
    if len(jobs) == 1:
        return f"  {first.id:12} {first.stage:9}{within(owner, first.run)}{waits}"
    return f"  {f'{first.array}_[0-{len(jobs) - 1}]':12} {first.stage:9}{len(jobs)} runs{waits}"


def _attend(targets: Sequence[Step], owner: Path) -> int:
    told = attend(owner)
    for report in told:
        if report.state not in (RunState.finished, RunState.skipped):
            print(f"{report.state.value}: {report.run.folder}: {report.detail}")
    if all(target.finished for target in targets):
        _close(targets)
        return 0
    print(f"not everything finished; to continue: resume={owner}")
    return 1


def _close(targets: Sequence[Step]) -> None:
    for target in targets:
        assert target.run is not None
        if len(targets) == 1 and target.run.table:
            print(target.run.table)
        print(f"finished: {target.run.folder}")
