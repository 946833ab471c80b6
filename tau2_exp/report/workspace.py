"""A sweep as a saved W&B workspace: its runs, grouped by what was swept, and their curves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tau2_exp.config import ConfigError, LoggerKind, to_data
from tau2_exp.dispatch.local.sweep import read_sweep, sweep_runs
from tau2_exp.files import whole_file
from tau2_exp.llm.secrets import secret
from tau2_exp.report.arms import flatten
from tau2_exp.runs.run import Run
from tau2_exp.runs.wandb import answers

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

BESIDE = ("seed", "name", "outputs", "resume", "dry_run", "wait", "hardware", "logger")  # of settings: not swept
GROUPED = 2  # keys that the runs are grouped by, below their stage


def register(commands: argparse._SubParsersAction) -> None:
    """Add `workspace` to a parser's subcommands."""
    command = commands.add_parser("workspace", help="save a W&B workspace of a sweep's runs")
    command.add_argument("sweep", type=Path, metavar="SWEEP", help="a sweep's folder")
    command.add_argument("--entity", help="the W&B user or team; default: logger.entity")
    command.add_argument(
        "--to", type=Path, metavar="FILE", help="write the view as JSON to this file, without a server"
    )
    command.set_defaults(run=_command)


def _command(arguments: argparse.Namespace) -> int:
    workspace = make_workspace(arguments.sweep, arguments.entity)
    if arguments.to:
        view = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        _write_view(arguments.to, view)
        print(f"{arguments.to}: {len(workspace.sections)} sections of {workspace.name}")
        return 0
    _save(workspace, sweep_runs(arguments.sweep, read_sweep(arguments.sweep))[0].config.logger.api_key_env)
    return 0


def _write_view(path: Path, view: str) -> None:
    """Raises ConfigError where the file is there and holds anything else than a view."""
    if path.exists() and not _is_view(path):
        raise ConfigError(f"--to {path}: is there, and is not a workspace's view; name another file")
    with whole_file(path) as file:
        file.write(view.encode())


def _is_view(path: Path) -> bool:
    try:
        return "section" in json.loads(path.read_text())
    except (OSError, ValueError, TypeError):
        return False


def make_workspace(folder: Path, entity: str | None = None) -> Workspace:
    """The view of a sweep, made of what its runs logged so far. Raises ConfigError where there is nothing to show."""
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError("workspace: needs wandb-workspaces; pip install 'tau2_exp[wandb]'") from None

    jobs = sweep_runs(folder, read_sweep(folder))
    logger = jobs[0].config.logger
    if logger.kind is not LoggerKind.wandb:
        raise ConfigError(f"{folder}: made with logger=none, so W&B has none of its runs; use logger=wandb")
    if not (entity := entity or logger.entity):
        raise ConfigError("logger.entity=null: a workspace belongs to a W&B user or team; give --entity NAME")
    swept = swept_keys([to_data(run.config) for run in jobs])
    keys = _logged(jobs, logger.group)
    if not any(keys.values()):
        raise ConfigError(f"{folder}: its runs have logged nothing yet; start it first, with logger=wandb")
    return ws.Workspace(
        entity=entity,
        project=logger.project,
        name=f"sweep {logger.group}",
        sections=[_section(stage, names) for stage, names in keys.items() if names],
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == logger.group],
            groupby=[ws.Metric("JobType"), *(ws.Config(key) for key in swept[:GROUPED])],
            order=[ws.Ordering(ws.Metric("CreatedTimestamp"), ascending=True)],
            pinned_columns=["run:displayName", *(f"config:{key}" for key in (*swept, "seed"))],
        ),
    )


def swept_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dotted names of settings in which a sweep's jobs differ, seeds and what changes no result aside."""
    flat = [dict(flatten({key: value for key, value in config.items() if key not in BESIDE})) for config in configs]
    names = dict.fromkeys(name for leaves in flat for name in leaves)
    return [name for name in names if any(leaves.get(name) != flat[0].get(name) for leaves in flat)]


def _logged(jobs: Sequence[Run], group: str | None) -> dict[str, list[str]]:
    """What the runs of each stage logged, shared stages included."""
    runs: dict[Path, Run] = {}
    for job in jobs:
        _collect(job, group, runs)
    keys: dict[str, dict[str, None]] = {}
    for run in runs.values():
        told = keys.setdefault(run.stage, {})
        for record in run.metrics():
            told |= dict.fromkeys(k for k, v in record.items() if k != "step" and isinstance(v, (int, float)))
    return {stage: list(names) for stage, names in keys.items()}


def _collect(run: Run, group: str | None, found: dict[Path, Run]) -> None:
    """A run behind those it depends on."""
    for before in (*run.members, *([run.parent] if run.parent else [])):
        _collect(before, group, found)
    if run.config.logger.group == group:
        found.setdefault(run.folder, run)


def _section(stage: str, names: Sequence[str]) -> Section:
    """Curves of a stage that takes steps, seeds as a band; bars of one that ends with its numbers."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels: list[Any]  # a list is invariant, and the library's is of all its panels
    if stage in ("eval", "demos"):
        panels = [wr.BarPlot(title=name, metrics=[name], groupby_aggfunc="mean") for name in names]
    else:
        panels = [
            wr.LinePlot(title=name, y=[name], groupby_aggfunc="mean", groupby_rangefunc="minmax") for name in names
        ]
    return ws.Section(name=stage, panels=panels, is_open=stage in ("grpo", "eval"))


def _save(workspace: Workspace, key_name: str) -> None:
    import wandb

    key, server = secret(key_name), wandb.setup().settings.base_url
    if not answers(server):
        raise ConfigError(f"workspace: {server} does not answer; --to FILE writes it without a server")
    try:
        wandb.setup(wandb.Settings(api_key=key, base_url=server, silent=True))
        workspace.save()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"workspace: W&B rejected it: {reason}; --to FILE writes it without a server") from error
    print(f"saved: {workspace.url}")
