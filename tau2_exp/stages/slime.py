"""A stage that slime trains, or that runs against a server of its model: the plan is made, and done."""

from __future__ import annotations

from pathlib import Path

from tau2_exp.config import DemosConfig, EvalConfig
from tau2_exp.engines.slime.cluster.execute import execute
from tau2_exp.engines.slime.cluster.results import training_results
from tau2_exp.engines.slime.plan.plan import make_plan
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import starting_point


def by_plan(run: Run) -> None:
    """Make a stage's plan and run it. Raises CommandFailed where a command fails; called again, it continues there."""
    folder = run.folder.resolve()  # the commands are done in folders of their own
    commands = make_plan(run.config, folder, _start(run))
    execute(commands, folder, run.config.engine.slime.start_seconds)
    if run.status is not RunStatus.finished:  # an evaluation writes its own results
        run.finish(training_results(run, commands))


def _start(run: Run) -> str:
    """The folder or hub name of the model that the stage begins with; none where only its user is served."""
    config = run.config
    if isinstance(config.stage, DemosConfig) or (isinstance(config.stage, EvalConfig) and not config.serves_policy):
        return ""
    start = starting_point(StageContext(run))
    return str(start.resolve()) if isinstance(start, Path) else start
