"""GRPO: sample groups, reward and credit them, take a step, again. One step reads top to bottom in `_step`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import GrpoConfig, PointChoice, RewardKind
from tau2_exp.learning.advantage import GroupCredit, Turns, credit_metrics, group_credit, step_scale
from tau2_exp.learning.batch import rows_from_trajectory
from tau2_exp.learning.curriculum import make_curriculum
from tau2_exp.learning.metrics import ROLLOUTS, Group, grpo_label, rollout_metrics
from tau2_exp.learning.reward import score
from tau2_exp.rollouts.rollout import check_faults
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.groups import play_groups
from tau2_exp.stages.learner import Learner
from tau2_exp.stages.learning_curve import LearningCurve
from tau2_exp.stages.policy_server import policy_server
from tau2_exp.stages.progress import ProgressBar
from tau2_exp.stages.step_size import Played, sampled_tokens, step_size
from tau2_exp.types import EpisodeSpec, Row, Sampling, Trajectory, stable_seed

NEAR = 0.02  # of the tokens that a run is to sample: runs that differ by less cost the same


async def grpo(run: Run) -> None:
    """Train with GRPO for the stage's steps, and finish the run with its model and the counts of episodes."""
    stage = run.config.stage
    assert isinstance(stage, GrpoConfig)
    context = StageContext(run)
    with policy_server(context):
        trainer = _Grpo(context, stage)
        await trainer.train()
    silent = sum(not record.get("groups", 1) for record in run.metrics())
    if silent > stage.steps / 2:
        print(
            f"grpo: in {silent} of {stage.steps} steps no group had a signal: all its episodes earned the same, so the "
            "model did not change; start from a better model, or see docs/troubleshooting.md"
        )
    _tell_missed(stage, trainer.totals["sampled_tokens"])
    trainer.learner.finish({"steps": stage.steps} | trainer.totals)


def _tell_missed(stage: GrpoConfig, sampled: int) -> None:
    wanted = stage.steps * (stage.sampled_tokens or 0)
    if wanted and abs(sampled - wanted) > NEAR * wanted:
        print(
            f"grpo: sampled {sampled} tokens, and {wanted} were asked for (stage.steps × stage.sampled_tokens): one "
            "group is too large a share, or faults ended the last step; raise stage.sampled_tokens or stage.steps"
        )


class _Grpo:
    def __init__(self, context: StageContext, stage: GrpoConfig):
        self.context, self.stage, self.run = context, stage, context.run
        self.tasks = {task.key: task for task in context.tasks(context.config.domain.train_split)}
        self.curriculum = make_curriculum(list(self.tasks), context.config.curriculum, context.config.seed)
        self.learner = Learner(context)
        self.branch = stage.branch if context.config.reward.kind is RewardKind.branch else None
        sampling = Sampling(
            stage.temperature,
            stage.top_p,
            stage.top_k,
            context.config.model.max_new_tokens,
            entropy=self.branch is not None and self.branch.choice is PointChoice.entropy,
        )
        self.policy = self.learner.policy(sampling)
        self.curve = LearningCurve(context, self.learner, stage)
        self.size = step_size(stage)
        self.totals: dict[str, int] = {"episodes": 0, "faults": 0, "sampled_tokens": 0}

    async def train(self) -> None:
        learner, stage = self.learner, self.stage
        learner.begin(stage.steps)
        if learner.saved:
            self.curriculum.restore(learner.saved["curriculum"])
            self.totals |= learner.saved["totals"]
            self.size.restore(learner.saved.get("size", {}))
            self._tell_of_another_formula()
        await self.curve.begin()
        with (
            self.run.write_trajectories(ROLLOUTS, keep=self.totals["episodes"]) as file,
            ProgressBar(grpo_label(self.context.config.reward), stage.steps, self.run, learner.step) as bar,
        ):
            while learner.step < stage.steps:
                metrics, trajectories = await self._step()
                metrics |= await self.curve.point()
                for trajectory in trajectories:
                    file.write(trajectory)
                learner.advance(metrics, self._state())
                bar.advance(reward=metrics["outcome"], shaped=metrics["shaped"])

    def _state(self) -> dict[str, Any]:
        return {"curriculum": self.curriculum.state(), "totals": dict(self.totals), "size": self.size.state()}

    def _tell_of_another_formula(self) -> None:
        trained = [record for record in self.run.metrics() if record.get("groups")]
        turn_level = self.context.config.reward.kind is RewardKind.turn_level
        if turn_level and trained and "credit_turn_rms" not in trained[-1]:
            print(f"grpo: until step {self.learner.step} an earlier version credited turns by another formula")

    async def _step(self) -> tuple[dict[str, Any], list[Trajectory]]:
        begun = time.perf_counter()
        groups, scored, trajectories = await self._groups()
        seconds = time.perf_counter() - begun
        scale = step_scale(credit for _, credit in groups)
        rows = [row for group, credit in groups for row in self._rows(group, credit.weighted(credit.advantages(scale)))]
        metrics = self._learn(rows) | credit_metrics([credit for _, credit in groups], scale)
        self.totals["episodes"] += len(trajectories)
        self.totals["faults"] += sum(not t.scored for t in trajectories)
        sampled = sampled_tokens(trajectories)
        self.totals["sampled_tokens"] += sampled
        figures = rollout_metrics(len(groups), scored, trajectories)
        figures |= {"rollout_seconds": seconds, "sampled_tokens_per_second": sampled / seconds}
        return figures | {"sampled_tokens": self.totals["sampled_tokens"]} | metrics, trajectories

    def _learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        self.learner.open_step()
        if rows:
            return self.learner.trainer.grpo_step(rows)
        self.learner.trainer.step += 1  # nothing to learn from: the schedule goes on all the same
        return {}

    async def _groups(self) -> tuple[list[tuple[Group, GroupCredit]], Group, list[Trajectory]]:
        """Groups with signal, all that is scored, and all that was played, as many as the step's size asks for."""
        groups: list[tuple[Group, GroupCredit]] = []
        scored: Group = []
        trajectories: list[Trajectory] = []
        drawn: list[str] = []
        step, so_far = self.learner.step, Played()
        while (more := self.size.more(step, so_far)).groups:
            keys = self.curriculum.draw(more.groups, drawn)
            drawn += keys
            samples = more.samples(self.stage.samples_per_prompt)
            for key, episodes in zip(keys, await self._play(keys, samples, so_far.draws), strict=True):
                trajectories += episodes
                group = self._scored(episodes)
                scored += group
                if group:
                    self.curriculum.record(key, [t.outcome for t, _ in group if t.branch is None])
                if (credit := group_credit(group, self.context.config.reward)).signal:
                    groups.append((group, credit))
            played = so_far.groups + len(keys) * samples / self.stage.samples_per_prompt
            tokens = sampled_tokens(trajectories)
            so_far = Played(so_far.draws + 1, played, len(groups), tokens, tokens - so_far.tokens)
        self.size.close(so_far)
        check_faults(trajectories, f"grpo step {step}")
        return groups, scored, trajectories

    async def _play(self, keys: Sequence[str], samples: int, draw: int) -> list[list[Trajectory]]:
        seed, step = self.context.config.seed, self.learner.step
        specs = []
        for place, key in enumerate(keys):
            before = keys[:place].count(key) * samples  # a task drawn twice is run with other seeds, not repeated
            for sample in range(samples):
                seeded = stable_seed(seed, ROLLOUTS, step, draw, key, before + sample)
                specs.append(EpisodeSpec(self.tasks[key], sample, seeded, place * samples + sample))
        return await play_groups(self.context.episode_setting, self.policy, specs, samples, self.branch)

    def _scored(self, group: Sequence[Trajectory]) -> Group:
        return [(t, score(t, self.context.config.reward)) for t in group if t.scored]

    def _rows(self, group: Group, advantages: Sequence[Turns]) -> list[Row]:
        """A group's rows; the curriculum's weight of the task scales their advantages."""
        weight = self.curriculum.weight(group[0][0].key)
        return [
            rows_from_trajectory(trajectory, [weight * a for a in turns])
            for (trajectory, _), turns in zip(group, advantages, strict=True)
            if trajectory.turns
        ]
