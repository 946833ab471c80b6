"""One command from its overrides to its exit status: plan, freeze, do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from tau2_exp.compose.composition import chain_settings, compose_config, expand_sweep
from tau2_exp.compose.overrides import given, key_of, read
from tau2_exp.config import Config, ConfigError
from tau2_exp.dispatch.dry_run import preview, preview_frozen
from tau2_exp.dispatch.freeze import Made, all_or_nothing, freeze, take_up
from tau2_exp.dispatch.local.processes import run_attached
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.resources import check_gpus
from tau2_exp.dispatch.resumed import OF_A_COMMAND, change
from tau2_exp.dispatch.show import end_lines, plan_lines, remark
from tau2_exp.dispatch.slurm.cluster import cluster
from tau2_exp.dispatch.slurm.queued import queued
from tau2_exp.dispatch.slurm.remote import follow, is_remote
from tau2_exp.dispatch.slurm.submit import submit
from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import make_tasks
from tau2_exp.runs.run import Run, check_name
from tau2_exp.system.quoting import setting


def launch(overrides: Sequence[str], sweep: bool, argv: Sequence[str]) -> int:
    """Do what the command line asks for; the exit status. Raises ConfigError before anything starts."""
    resumed = given(read(overrides, sweep), "resume")
    if resumed is not None:
        return _resume(Path(resumed).expanduser(), overrides)
    if sweep:
        return _launch_sweep(expand_sweep(overrides), argv)
    config = compose_config(overrides)
    if config.dry_run:
        return preview([overrides], [config])
    target = Planner(Path(config.outputs)).plan(config, partial(chain_settings, overrides))
    _check_machine([target])
    with all_or_nothing() as made:
        run = freeze(target, argv, _busy([target]), made)
        _tell(target)
        if is_remote(config):
            submission = submit([target], run.folder, made)
    if is_remote(config):
        return follow(submission, [target], run.folder, config.wait)
    return _do(target)


def _tell(target: Step) -> None:
    print("\n".join(plan_lines(target)), flush=True)


def _do(target: Step) -> int:
    assert target.run is not None
    for task in make_tasks([target]):
        if status := run_attached(task.runs):
            print("\n".join(end_lines([target], target.run.folder)), file=sys.stderr)
            return status
    if target.run.table:
        print(target.run.table)
    if words := remark(target.config):
        print(words)
    print(f"finished: {target.run.folder}")
    print("\n".join(end_lines([target], target.run.folder)))
    return 0


def _launch_sweep(jobs: Sequence[Sequence[str]], argv: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import run_sweep, write_sweep

    configs = [compose_config(job) for job in jobs]
    first = configs[0]
    check_name(first.name)
    folder = Path(first.outputs) / (first.name or f"{datetime.now():%Y-%m-%d_%H%M%S}-sweep")
    if first.dry_run:
        return preview(jobs, configs)
    if folder.exists():
        raise ConfigError(
            f"name={folder.name}: {folder} already exists; take another name, or {setting('resume', folder)}"
        )
    planner = Planner(Path(first.outputs))
    targets = [
        planner.plan(_of_sweep(config, folder), partial(chain_settings, job))
        for config, job in zip(configs, jobs, strict=True)
    ]
    _check_machine(targets)
    with all_or_nothing() as made:
        busy = _busy(targets)
        runs = [freeze(target, argv, busy, made) for target in targets]
        sweep = write_sweep(folder, list(zip(jobs, runs, strict=True)), argv)
        made.folders.append(folder)
        if is_remote(first):
            submission = submit(targets, folder, made)
    if is_remote(first):
        return follow(submission, targets, folder, first.wait)
    return run_sweep(folder, sweep, targets, first.hardware)


def _check_machine(targets: Sequence[Step]) -> None:
    """Raises ConfigError, before run folders are made, where there is no cluster, or this machine has not the GPUs."""
    if is_remote(targets[0].config):
        cluster()
        return
    for target in targets:
        for step in target.lineage():
            if not step.finished:
                check_gpus(step.config)


def _of_sweep(config: Config, folder: Path) -> Config:
    """A sweep's jobs share its name as their group; each takes a folder name of its own."""
    return replace(config, name=None, logger=replace(config.logger, group=config.logger.group or folder.name))


def _busy(targets: Sequence[Step]) -> set[str]:
    """The addresses of what jobs in the queue do, or are to do. Where no queue can be asked, there are none."""
    found: set[str] = set()
    with suppress(ConfigError):
        found |= queued(targets).keys()
    return found


def _resume(folder: Path, overrides: Sequence[str]) -> int:
    """Go on with a run or a sweep by its own frozen configuration, less what of it may be given anew."""
    now = compose_config([text for text in overrides if key_of(text) in OF_A_COMMAND[1:]])
    if (folder / "sweep.json").is_file():
        return _resume_sweep(folder, now, overrides)
    run = Run.open(folder)
    target = Planner(run.folder.parent).adopt(run)
    change([target], overrides, folder)
    if now.dry_run:
        return preview_frozen([target], now.dry_run)
    _go_on([target])
    _tell(target)
    if is_remote(target.config):
        return follow(submit([target], run.folder, Made()), [target], run.folder, now.wait)
    return _do(target)


def _resume_sweep(folder: Path, now: Config, overrides: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import read_sweep, run_sweep, sweep_runs

    sweep = read_sweep(folder)
    planner = Planner(folder.parent)
    targets = [planner.adopt(run) for run in sweep_runs(folder, sweep)]
    change(targets, overrides, folder)
    if now.dry_run:
        return preview_frozen(targets, now.dry_run)
    _go_on(targets)
    if is_remote(targets[0].config):
        return follow(submit(targets, folder, Made()), targets, folder, now.wait)
    return run_sweep(folder, sweep, targets, targets[0].config.hardware)


def _go_on(targets: Sequence[Step]) -> None:
    """Open again what has no number yet, and freeze what was given anew."""
    _reopen(targets)
    busy = _busy(targets)
    for step in {step.address: step for target in targets for step in target.lineage()}.values():
        take_up(step, busy)


def _reopen(targets: Sequence[Step]) -> None:
    """Evaluations that lost samples to faults have no number: who resumes them wants those played."""
    for step in (step for target in targets for step in target.lineage()):
        again = step.stage == "pipeline" and step.finished and not all(member.finished for member in step.members)
        if step.run and (again or step.run.lost_samples):
            step.run.reopen()
