"""Demonstrations: an oracle, or a custom policy, is run on the training tasks; SFT reads the solved episodes."""

from __future__ import annotations

from collections import Counter

from tau2_exp.config import DemosConfig
from tau2_exp.rollouts.rollout import check_faults
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import demonstrator
from tau2_exp.types import SOLVED

DEMOS = "demos"  # the file of trajectories


async def demos(run: Run) -> None:
    """Run the demonstrator on each training task, and finish the run with the counts of episodes."""
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, DemosConfig)
    tasks = context.tasks(run.config.domain.train_split)
    policy = demonstrator(context)
    trajectories = await context.collect(DEMOS, policy, context.specs(tasks, stage.samples_per_prompt, DEMOS))
    check_faults(trajectories, "demonstrations")
    solved = sum(t.scored and t.outcome >= SOLVED for t in trajectories)
    turns = sum(len(t.turns) for t in trajectories) / len(trajectories)
    print(f"demos: {solved} of {len(trajectories)} solved by {policy.name}, {turns:.1f} turns each")
    run.log({"solved": solved, "trajectories": len(trajectories), "turns": turns}, step=0)
    run.finish(
        {
            "solved": solved,
            "trajectories": len(trajectories),
            "tasks": len(tasks),
            "turns": turns,
            "stops": dict(Counter(t.stop.value for t in trajectories)),
        }
    )
