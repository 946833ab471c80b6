"""The pipeline's own part: when its members are finished, one table of their evaluations."""

from __future__ import annotations

from tau2_exp.evaluation.table import pipeline_table
from tau2_exp.runs.run import Run


async def pipeline(run: Run) -> None:
    """Finish a pipeline's run with the results of its evaluations, by folder name, and one table of them."""
    results = {member.folder.name: member.results for member in run.members if member.stage == "eval"}
    run.finish({"evaluations": results}, pipeline_table(run))
