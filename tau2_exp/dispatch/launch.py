"""One command from its overrides to its exit status: plan, freeze, do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from tau2_exp.compose.composition import chain_settings, compose_config, expand_sweep
from tau2_exp.compose.overrides import given, key_of, read
from tau2_exp.config import Config, ConfigError, PipelineConfig
from tau2_exp.dispatch.dry_run import preview, preview_frozen
from tau2_exp.dispatch.local.processes import run_attached, run_behind
from tau2_exp.dispatch.plan import TRAINED, Planner, Step, freeze
from tau2_exp.dispatch.resources import check_gpus
from tau2_exp.dispatch.slurm.jobs import WORKER_LOG
from tau2_exp.dispatch.slurm.remote import ON_RESUME, change, is_remote, send
from tau2_exp.dispatch.slurm.submit import cluster
from tau2_exp.dispatch.tasks import make_tasks
from tau2_exp.dispatch.worker import work_here
from tau2_exp.engines.slime.plan.plan import is_planned
from tau2_exp.runs.run import Run, check_name

BUDGETS = ("budget_dollars", "budget_tokens")  # of evaluations
ALSO_ON_RESUME = {
    *("resume", "dry_run", "debug", "hardware", "hardware.jobs"),
    *(f"stage.{name}" for name in BUDGETS),
    *ON_RESUME,
}


def launch(overrides: Sequence[str], sweep: bool, argv: Sequence[str]) -> int:
    """Do what the command line asks for; the exit status. Raises ConfigError before anything starts."""
    resumed = given(read(overrides, sweep), "resume")
    if resumed is not None:
        return _resume(Path(resumed).expanduser(), overrides)
    if sweep:
        return _launch_sweep(expand_sweep(overrides), argv)
    config = compose_config(overrides)
    if config.dry_run:
        return preview([overrides], config.dry_run)
    return do(prepare(config, partial(chain_settings, overrides), argv), config)


def prepare(config: Config, chain: Callable[[], PipelineConfig], argv: Sequence[str]) -> Step:
    """Plan a configuration, and freeze what is not there yet. Raises ConfigError; nothing is made then."""
    target = Planner(Path(config.outputs)).plan(config, chain)
    if config.debug:
        _check_debug(target)
    _check_machine([target])
    freeze(target, argv)
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
    """Do what is left of a frozen target, as `wait` and `debug` of `now` say; the exit status."""
    from tau2_exp.dispatch.show import plan_lines

    assert target.run is not None
    print("\n".join(plan_lines(target)), flush=True)
    if is_remote(target.config):
        return send([target], target.run.folder, now.wait)
    for task in make_tasks([target]):
        if now.debug:
            work_here(task.runs)
        elif status := run_attached(task.runs):
            return status
    if target.run.table:
        print(target.run.table)
    print(f"finished: {target.run.folder}")
    return 0


def begin(target: Step) -> None:
    """Have what is left of a frozen target done, and do not wait for it."""
    assert target.run is not None
    if is_remote(target.config):
        send([target], target.run.folder, wait=False)
    for task in [] if is_remote(target.config) else make_tasks([target]):
        run_behind(task.runs, target.run.folder / WORKER_LOG)


def _launch_sweep(jobs: Sequence[Sequence[str]], argv: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import run_sweep, write_sweep

    configs = [compose_config(job) for job in jobs]
    first = configs[0]
    if first.debug:
        raise ConfigError("debug=true: a sweep's jobs have a process each; debug one of them, without -m")
    check_name(first.name)
    folder = Path(first.outputs) / (first.name or f"{datetime.now():%Y-%m-%d_%H%M%S}-sweep")
    if first.dry_run:
        return preview(jobs, first.dry_run)
    if folder.exists():
        raise ConfigError(f"name={folder.name}: {folder} already exists; use another name, or resume={folder}")
    planner = Planner(Path(first.outputs))
    targets = [
        planner.plan(_of_sweep(config, folder), partial(chain_settings, job))
        for config, job in zip(configs, jobs, strict=True)
    ]
    _check_machine(targets)
    runs = [freeze(target, argv) for target in targets]
    sweep = write_sweep(folder, list(zip(jobs, runs, strict=True)), argv)
    if is_remote(first):
        return send(targets, folder, first.wait)
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


def _resume(folder: Path, overrides: Sequence[str]) -> int:
    """Go on with a run or a sweep, by its own frozen configuration."""
    refused = [text for text in overrides if key_of(text) not in ALSO_ON_RESUME]
    if refused:
        raise ConfigError(
            f"{refused[0]}: resume={folder} uses the run's own frozen settings; {_instead(folder, refused)}"
        )
    budget = [text for text in overrides if text.startswith("stage.")]
    now = compose_config([text for text in overrides if key_of(text) != "resume" and text not in budget])
    if (folder / "sweep.json").is_file():
        return _resume_sweep(folder, now, budget, [text.partition("=")[0] for text in overrides])
    run = Run.open(folder)
    target = Planner(folder.parent).adopt(run)
    if now.dry_run:
        return preview_frozen([target], now.dry_run)
    if now.debug:
        _check_debug(target)
    _reopen([target])
    _check_plugins([target])
    _give([target], budget)
    change([target], now, [text.partition("=")[0] for text in overrides])
    return do(target, now)


def _instead(folder: Path, refused: Sequence[str]) -> str:
    """What to do with settings that a resumed run does not take."""
    drop = "remove one of the two"
    if (folder / "sweep.json").is_file() or not all(key_of(text).startswith("stage.") for text in refused):
        return drop
    run = Run.open(folder)
    trained = next((one for one in reversed((*run.members, run)) if one.stage in TRAINED), None)
    if trained is None:
        return drop
    own = [f"stage.{text.partition('.')[2].removeprefix(f'{trained.stage}.')}" for text in refused]
    begin = f"stage={trained.stage} model={trained.config.model.name} parent={trained.folder} {' '.join(own)}"
    return f"{drop}, or, once it is finished, train its model further: {begin}"


def _reopen(targets: Sequence[Step]) -> None:
    """Evaluations that lost samples to faults have no number: resuming runs those again."""
    for step in (step for target in targets for step in target.lineage()):
        again = step.stage == "pipeline" and step.finished and not all(member.finished for member in step.members)
        if step.run and (again or step.run.lost_samples):
            step.run.reopen()


def _give(targets: Sequence[Step], budget: Sequence[str]) -> None:
    """Freeze the new budget into the evaluations that are not finished. Raises ConfigError where there are none."""
    if not budget:
        return
    stage = compose_config(["stage=eval", "user=litellm", *budget]).stage
    given = {name: getattr(stage, name) for name in BUDGETS if any(f".{name}=" in text for text in budget)}
    steps = {step.address: step for target in targets for step in target.lineage()}
    runs = [step.run for step in steps.values() if step.run and step.stage == "eval" and not step.finished]
    if not runs:
        raise ConfigError(f"{budget[0]}: there is no unfinished evaluation to apply it to; remove it")
    for run in runs:
        run.refreeze(replace(run.config, stage=replace(run.config.stage, **given)))


def _resume_sweep(folder: Path, now: Config, budget: Sequence[str], given: Sequence[str]) -> int:
    from tau2_exp.dispatch.local.sweep import read_sweep, run_sweep, sweep_runs

    sweep = read_sweep(folder)
    planner = Planner(folder.parent)
    targets = [planner.adopt(run) for run in sweep_runs(folder, sweep)]
    if now.dry_run:
        return preview_frozen(targets, now.dry_run)
    _reopen(targets)
    _check_plugins(targets)
    _give(targets, budget)
    change(targets, now, given)
    if is_remote(targets[0].config):
        return send(targets, folder, now.wait)
    hardware = targets[0].config.hardware
    return run_sweep(folder, sweep, targets, replace(hardware, jobs=now.hardware.jobs or hardware.jobs))
