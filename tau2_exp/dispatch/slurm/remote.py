"""A command whose runs SLURM does: print what was submitted and how to follow it, or with `wait` stay until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tau2_exp.config import Config, LauncherKind
from tau2_exp.dispatch.following.states import RunState
from tau2_exp.dispatch.following.status import attend
from tau2_exp.dispatch.show import COMMAND, end_lines
from tau2_exp.dispatch.slurm.jobs import SlurmJob, Submission, within
from tau2_exp.dispatch.step import Step
from tau2_exp.system.quoting import shell


def is_remote(config: Config) -> bool:
    """Whether SLURM does the runs (hardware.launcher=slurm)."""
    return config.hardware.launcher is LauncherKind.slurm


def tell(submission: Submission | None, owner: Path) -> None:
    """Print what was submitted for `owner`, the folder of a run or a sweep."""
    for line in _submitted(submission, owner):
        print(line, flush=True)


def follow(targets: Sequence[Step], owner: Path, wait: bool) -> int:
    """Print how to follow what was submitted for `owner`, or with `wait` stay until it has ended; the exit status."""
    if wait:
        return _attend(targets, owner)
    if all(target.finished for target in targets):
        _close(targets)
    else:
        for action in ("status", "logs --follow", "cancel"):
            print(f"  {shell([*COMMAND, *action.split(), owner])}")
    return 0


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
        print("\n".join(end_lines(targets, owner)))
        return 0
    print("not everything is finished; to continue, and to see it:")
    print("\n".join(end_lines(targets, owner)))
    return 1


def _close(targets: Sequence[Step]) -> None:
    for target in targets:
        assert target.run is not None
        if len(targets) == 1 and target.run.table:
            print(target.run.table)
        print(f"finished: {target.run.folder}")
