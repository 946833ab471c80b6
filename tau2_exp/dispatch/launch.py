"""One command from its overrides to its exit status: plan, freeze, do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from tau2_exp.compose.composition import chain_settings, compose_config, expand_sweep
from tau2_exp.compose.overrides import given, key_of, read
from tau2_exp.config import Config, ConfigError, PipelineConfig
from tau2_exp.config.paths import expanded
from tau2_exp.dispatch.dry_run import preview, preview_frozen
from tau2_exp.dispatch.freeze import Made, all_or_nothing, freeze, take_up
from tau2_exp.dispatch.local.processes import run_attached, run_behind
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.resources import check_gpus, check_hub
from tau2_exp.dispatch.resumed import OF_A_COMMAND, change
from tau2_exp.dispatch.show import end_lines, notes, plan_lines, remark
from tau2_exp.dispatch.slurm.cluster import cluster
from tau2_exp.dispatch.slurm.jobs import WORKER_LOG
from tau2_exp.dispatch.slurm.queued import queued
from tau2_exp.dispatch.slurm.remote import follow, is_remote, tell
from tau2_exp.dispatch.slurm.submit import submit
from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import make_tasks
from tau2_exp.dispatch.worker import work_here
from tau2_exp.engines.slime.plan.plan import is_planned
from tau2_exp.engines.torch.sampler import check_sampler
from tau2_exp.runs.outputs import check_name
from tau2_exp.runs.run import Run
from tau2_exp.system.quoting import setting

OF_A_SWEEP: dict[str, Callable[[Config], object]] = {
    "outputs": lambda config: config.outputs,
    "name": lambda config: config.name,
    "dry_run": lambda config: config.dry_run,
    "wait": lambda config: config.wait,
    "hardware.launcher": lambda config: config.hardware.launcher,
}


def launch(overrides: Sequence[str], sweep: bool, argv: Sequence[str]) -> int:
    """Do what the overrides describe; the exit status. Raises ConfigError before anything starts."""
    resumed = given(read(overrides, sweep), "resume")
    if resumed is not None:
        if not isinstance(resumed, str):
            raise ConfigError("resume: takes one folder, of a run or of a sweep; give several one after another")
        return _resume(Path(expanded(resumed)), overrides)
    if sweep:
        return _launch_sweep(expand_sweep(overrides), argv)
    config = compose_config(overrides)
    if config.dry_run:
        return preview([overrides], [config])
    return do(prepare(config, partial(chain_settings, overrides), argv), config)


def prepare(config: Config, chain: Callable[[], PipelineConfig], argv: Sequence[str]) -> Step:
    """Plan a configuration, freeze what is not there yet, and hand jobs to SLURM, where it does them.

    Raises ConfigError; nothing is made then.
    """
    target = Planner(Path(config.outputs)).plan(config, chain)
    if config.debug:
        _check_debug(target)
    _check_machine([target])
    with all_or_nothing() as made:
        run = freeze(target, argv, _busy([target]), made)
        print("\n".join(plan_lines(target)), flush=True)
        if is_remote(config):
            tell(submit([target], run.folder, made), run.folder)
    return target


def _check_plugins(targets: Sequence[Step]) -> None:
    """Raises ConfigError where what is left to do calls something of the user's whose source has changed."""
    for step in (step for target in targets for step in target.lineage()):
        if step.run and not step.finished:
            step.run.reach_plugins()


def _check_debug(target: Step) -> None:
    """Raises ConfigError for what is done by other processes than this one."""
    for step in target.lineage():
        if is_remote(step.config):
            raise ConfigError("debug=true: does the stages in this process; use hardware.launcher=local")
        if is_planned(step.config):
            raise ConfigError(f"debug=true: {step.stage} with engine=slime has processes of its own; use engine=torch")


def do(target: Step, now: Config) -> int:
    """Do what is left of a prepared target, as `wait` and `debug` of `now` say; the exit status."""
    assert target.run is not None
    if is_remote(target.config):
        return follow([target], target.run.folder, now.wait)
    for task in make_tasks([target]):
        if now.debug:
            work_here(task.runs)
        elif status := run_attached(task.runs):
            print("\n".join(end_lines([target], target.run.folder)), file=sys.stderr)
            return status
    if target.run.table:
        print(target.run.table)
    if words := remark(target.config):
        print(words)
    print(f"finished: {target.run.folder}")
    print("\n".join(end_lines([target], target.run.folder)))
    return 0


def begin(target: Step) -> None:
    """Have what is left of a frozen target done, and do not wait for it."""
    assert target.run is not None
    for task in [] if is_remote(target.config) else make_tasks([target]):
        run_behind(task.runs, target.run.folder / WORKER_LOG)


def _launch_sweep(jobs: Sequence[Sequence[str]], argv: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import run_sweep, write_sweep

    configs = [compose_config(job) for job in jobs]
    first = configs[0]
    _check_common(configs)
    check_name(first.name)
    folder = Path(first.outputs) / (first.name or f"{datetime.now():%Y-%m-%d_%H%M%S}-sweep")
    if first.dry_run:
        return preview(jobs, configs)
    if folder.exists():
        raise ConfigError(
            f"name={folder.name}: {folder} already exists; use another name, or {setting('resume', folder)}"
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
        for note in dict.fromkeys(note for target in targets for note in notes(target)):
            print(note, flush=True)
        for note in _shared(targets):
            print(note, flush=True)
        if is_remote(first):
            tell(submit(targets, folder, made), folder)
    if is_remote(first):
        return follow(targets, folder, first.wait)
    return run_sweep(folder, sweep, targets, first.hardware)


def _check_common(configs: Sequence[Config]) -> None:
    """Raises ConfigError where a sweep's jobs differ in what holds for the whole command, or are to be debugged."""
    if any(config.debug for config in configs):
        raise ConfigError("debug=true: a sweep's jobs have a process each; debug one of them, without -m")
    for key, of in OF_A_SWEEP.items():
        if len({of(config) for config in configs}) > 1:
            raise ConfigError(f"{key}: holds for the whole sweep; give it one value")


def _shared(targets: Sequence[Step]) -> list[str]:
    """A line for each run that several jobs of a sweep are."""
    places: dict[str, list[str]] = {}
    for place, target in enumerate(targets):
        places.setdefault(target.address, []).append(str(place))
    return [
        f"jobs {', '.join(found)} are one run: they differ in nothing that changes a result"
        for found in places.values()
        if len(found) > 1
    ]


def _check_machine(targets: Sequence[Step]) -> None:
    """Raises ConfigError, before run folders are made, where a run cannot be done.

    There is no cluster, or this machine has not the GPUs, or the hub that a model is on does not answer.
    """
    if is_remote(targets[0].config):
        cluster()
        return
    for target in targets:
        for step in target.lineage():
            if not step.finished:
                check_gpus(step.config)
                check_sampler(step.config)
                if step.stage != "pipeline" and (step.parent is None or step.parent.stage == "demos"):
                    check_hub(step.config)  # the others have their parent's model


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
        return preview_frozen([target], now.dry_run, overrides)
    if now.debug:
        _check_debug(target)
    _go_on([target])
    print("\n".join(plan_lines(target)), flush=True)
    if is_remote(target.config):
        tell(submit([target], run.folder, Made()), run.folder)
    return do(target, now)


def _resume_sweep(folder: Path, now: Config, overrides: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import read_sweep, run_sweep, sweep_runs

    sweep = read_sweep(folder)
    planner = Planner(folder.parent)
    targets = [planner.adopt(run) for run in sweep_runs(folder, sweep)]
    change(targets, overrides, folder)
    if now.debug:
        raise ConfigError("debug=true: a sweep's jobs have a process each; resume one of its runs")
    if now.dry_run:
        return preview_frozen(targets, now.dry_run, overrides)
    _go_on(targets)
    if is_remote(targets[0].config):
        tell(submit(targets, folder, Made()), folder)
        return follow(targets, folder, now.wait)
    return run_sweep(folder, sweep, targets, targets[0].config.hardware)


def _go_on(targets: Sequence[Step]) -> None:
    """Open again what has no number yet, and freeze what was given anew. Raises ConfigError."""
    _reopen(targets)
    _check_plugins(targets)
    busy = _busy(targets)
    for step in {step.address: step for target in targets for step in target.lineage()}.values():
        take_up(step, busy)


def _reopen(targets: Sequence[Step]) -> None:
    """Evaluations that lost samples to faults have no number: resuming runs those again."""
    for step in (step for target in targets for step in target.lineage()):
        again = step.stage == "pipeline" and step.finished and not all(member.finished for member in step.members)
        if step.run and (again or step.run.lost_samples):
            step.run.reopen()
