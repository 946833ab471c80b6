"""Evaluations during training: the curve of a model's outcome against what its training sampled."""

from __future__ import annotations

from typing import Any

from tau2_exp.config import GrpoConfig
from tau2_exp.rollouts.rollout import rollout
from tau2_exp.rollouts.setting import evenly
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.learner import Learner
from tau2_exp.types import Sampling


class LearningCurve:
    """Evaluates a learner before its first step, after every `eval.every` of its steps, and after the last.

    The episodes and their seeds are the same each time, and are not training's: with evaluations or without, the same
    model is trained.
    """

    def __init__(self, context: StageContext, learner: Learner, stage: GrpoConfig):
        self._context, self._learner, self._steps, self._config = context, learner, stage.steps, stage.eval
        if stage.eval.every:
            tasks = evenly(context.tasks(stage.eval.split), stage.eval.tasks)
            self._specs = context.specs(tasks, 1, f"learning curve {stage.eval.split}")
            sampling = Sampling(stage.eval.temperature, max_tokens=context.config.model.max_new_tokens)
            self._policy = learner.policy(sampling)

    async def begin(self) -> None:
        """The point of the untrained model, as the metrics of step 0; a resumed run has it already."""
        run = self._context.run
        if self._config.every and self._learner.step == 0 and not run.metrics():
            run.log({"sampled_tokens": 0} | await self._point(), 0)

    async def point(self) -> dict[str, Any]:
        """The metrics of the model as it is, where the step just taken asks for them; else none."""
        step, every = self._learner.step, self._config.every
        return await self._point() if every and (step % every == 0 or step == self._steps) else {}

    async def _point(self) -> dict[str, Any]:
        played = await rollout(self._context.episode_setting, self._policy, self._specs)
        outcomes = [trajectory.outcome for trajectory in played if trajectory.scored]
        mean = sum(outcomes) / len(outcomes) if outcomes else None
        return {"eval/outcome": mean, "eval/episodes": len(outcomes)}
