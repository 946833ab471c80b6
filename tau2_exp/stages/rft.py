"""RFT: sample each training task several times, keep what succeeded, and train on it."""

from __future__ import annotations

from tau2_exp.config import RftConfig
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.fit import fit
from tau2_exp.stages.learner import Learner
from tau2_exp.stages.policy_server import policy_server
from tau2_exp.stages.samples import draw_samples, kept_samples, rft_rows, rft_summary


async def rft(run: Run) -> None:
    """Sample each training task, train on the samples that pass the filter, and finish the run with its model."""
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, RftConfig)
    learner = Learner(context)
    with policy_server(context):
        samples = await draw_samples(context, learner.policy, again=not learner.has_begun)
    kept = kept_samples(samples, stage, context.config.reward)
    fit(learner, rft_rows(kept), stage)
    learner.finish({**rft_summary(samples, kept), "steps": learner.step})
