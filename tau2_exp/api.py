"""What a notebook or a script imports: `from tau2_exp import api`.

    run = api.launch(api.compose(["stage=sft", "domain.limit=8"]))
    run.results, run.metrics(), run.checkpoint, run.parents
    solved = [t for t in api.evaluate(run).trajectories("test") if t.outcome]

A run that is there already, with the same content, is found and not made again. Nothing heavy is imported until a
function needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tau2_exp.compose.carried import carried, written
from tau2_exp.compose.check import check
from tau2_exp.compose.composition import chain_of, compose_config
from tau2_exp.config import Config, ConfigError, Provider, RewardConfig
from tau2_exp.learning.reward import score
from tau2_exp.plugins import is_path, reach
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.types import Fault, Message, Reward, StopReason, Trajectory, Turn, Verdict

if TYPE_CHECKING:
    from tau2_exp.evaluation.replay import Rescored

__all__ = [
    "Config",
    "ConfigError",
    "Fault",
    "Message",
    "Provider",
    "Reward",
    "RewardConfig",
    "Run",
    "RunFailed",
    "RunStatus",
    "StopReason",
    "Trajectory",
    "Turn",
    "Verdict",
    "compose",
    "evaluate",
    "launch",
    "load_run",
    "replay",
    "report",
    "score",
]


class RunFailed(RuntimeError):
    """A run failed or was interrupted; the message names its folder and the reason."""


def compose(overrides: Sequence[str] = ()) -> Config:
    """The checked configuration that these overrides give, as behind `run` on the command line.

    Raises ConfigError with one line that says how to correct them.
    """
    return compose_config(overrides)


def launch(config: Config, wait: bool = True) -> Run:
    """Do a configuration's run, and first the runs that it depends on; returns it, finished.

    As on the command line: each run is frozen into a folder under `config.outputs`; an existing run with the same
    content is reused, and an interrupted one is continued.

    wait=False returns at once. A run on this machine then continues in a separate process, which logs to
    logs/worker.log, and which saves and ends when this process ends; jobs of SLURM stay in the queue.

    Raises ConfigError before anything starts, and RunFailed where a run fails or is interrupted.
    """
    from tau2_exp.dispatch.launch import begin, do, prepare

    for name in ("dry_run", "resume"):
        if getattr(config, name):
            raise ConfigError(f"{name}={getattr(config, name)}: is for the command line; remove it")
    check(config)
    target = prepare(config, partial(chain_of, config), ["tau2_exp.api"])
    assert target.run is not None
    if not wait:
        begin(target)
    elif do(target, replace(config, wait=True)):
        runs = [step.run for step in target.lineage() if step.run]
        failed = next((run for run in runs if run.failure), target.run)
        raise RunFailed(f"{failed.folder}: {failed.failure or 'was ended before it was finished'}")
    return target.run


def load_run(folder: Path | str) -> Run:
    """The run of a folder, finished or not. Raises ConfigError where there is none."""
    return Run.open(folder)


def evaluate(run: Run, overrides: Sequence[str] = (), wait: bool = True) -> Run:
    """Evaluate the model of a finished run under the run's own settings; returns the evaluation's run.

    The model, domain, user, limits, engine and hardware are those of the run's configuration; `overrides` change them,
    and give those of `stage=eval`. The evaluation's folder lies beside the run's; of a pipeline the last model is
    evaluated. Raises as `launch`.
    """
    reach(plugin.folder for plugin in run.manifest.plugins)
    folders = [f"parent={written(str(run.folder))}", f"outputs={written(str(run.folder.parent))}"]
    return launch(compose(["stage=eval", *folders, *carried(run.config, overrides)]), wait)


def replay(trajectories: Iterable[Trajectory], provider: str = Provider.auto) -> list[Rescored]:
    """Evaluate recorded episodes again, each in a fresh world where its tool calls are repeated.

    Episodes of a domain of your own need its `provider`, as module:name: `run.config.domain.provider`. Each result has
    the new `verdict` and its `differences` from the recorded one, empty where they agree. Raises ConfigError where
    there is no such domain, and ValueError where there is no such task.
    """
    from tau2_exp.evaluation.episodes import episode_of
    from tau2_exp.evaluation.replay import NoDomain, rescore

    if is_path(provider):
        reach([Path.cwd()])
    try:
        return [rescore(episode_of(trajectory), provider) for trajectory in trajectories]
    except NoDomain as problem:
        raise ConfigError(f"{problem}; for a domain of your own, give provider=run.config.domain.provider") from None


def report(
    *folders: Path | str, against: str | None = None, html: Path | str | None = None, files: Path | str | None = None
) -> str:
    """Tables and comparisons of runs, sweeps and folders of them, as text.

    `against` names the arm that others are compared with. `html` is a folder for a page that opens from disk, `files`
    one for the tables as CSV and JSON. Raises ConfigError where a folder holds no run.
    """
    from tau2_exp.report.command import Request, make_report

    page, tables = (Path(folder) if folder else None for folder in (html, files))
    return "\n".join(make_report(Request(list(map(Path, folders)), against, page, tables)))
