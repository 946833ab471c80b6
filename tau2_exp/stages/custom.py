"""A custom stage: it may do anything with its run's context, and returns the content of results.json."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from tau2_exp.config import CustomConfig
from tau2_exp.plugins import PluginError, call
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policy_server import policy_server


async def custom(run: Run) -> None:
    """Run a custom stage. Raises PluginError where it raises, or returns anything but a mapping of JSON data."""
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, CustomConfig)
    with policy_server(context):
        results = call("stage.function", stage.function, context)
        if inspect.isawaitable(results):
            results = await results
    if not isinstance(results, Mapping):
        given = f"stage.function={stage.function}"
        raise PluginError(
            f"{given}: returned a {type(results).__name__}; it must return a mapping, which results.json will hold"
        )
    run.finish(dict(results))
