"""What every stage needs of its run: its setting, and episodes collected to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tau2_exp.config import EngineConfig, PolicyKind, UserKind
from tau2_exp.evaluation.standing import stands
from tau2_exp.interfaces import Policy
from tau2_exp.rollouts.rollout import rollout
from tau2_exp.rollouts.setting import RolloutSetting
from tau2_exp.runs.run import Run
from tau2_exp.stages.progress import ProgressBar, RunningMean
from tau2_exp.types import EpisodeSpec, Trajectory


class StageContext(RolloutSetting):
    """The setting of one run, and its episodes collected to disk."""

    def __init__(self, run: Run):
        super().__init__(run)
        run.record(provider=self.provider)

    @property
    def has_parent_model(self) -> bool:
        """Whether the parent run made a model."""
        return self.run.parent is not None and "model" in self.run.parent.results

    @property
    def lockstep(self) -> bool:
        """Whether episodes can be repeated bit for bit: nothing in them waits for another machine.

        A custom policy or user is taken to be local; engine.lockstep=false says that it is not.
        """
        config = self.config
        own = config.policy.kind is PolicyKind.model and not config.serves_policy
        local = own or config.policy.kind in (PolicyKind.oracle, PolicyKind.custom)
        return config.engine.lockstep and local and config.user.kind in (UserKind.scripted, UserKind.custom)

    @property
    def engine(self) -> EngineConfig:
        """The engine's settings for these episodes: no lockstep where it would wait for another machine."""
        return dataclasses.replace(self.config.engine, lockstep=self.lockstep)

    async def collect(self, name: str, policy: Policy, specs: Sequence[EpisodeSpec]) -> list[Trajectory]:
        """Run the episodes of `specs`, write them to trajectories/NAME.jsonl, and return them in order.

        The episodes of a killed attempt are kept; those that a fault ended, or that had no room for a first turn, are
        run again. Those that a budget did not allow are missing from the list.

        Where episodes repeat bit for bit they run in blocks, and a block cut short runs again whole, since the batch
        that an episode is decoded in decides the last bits.
        """
        specs = list(specs)
        block = 2 * self.config.rollout.concurrency if self.lockstep else len(specs)
        kept = list(self.run.trajectories(name))
        if self.lockstep:
            kept = kept[: len(kept) // block * block] if len(kept) < len(specs) else kept
        done = {_key(t): t for t in kept if stands(t)}
        waiting = [spec for spec in specs if (spec.task.key, spec.sample) not in done]
        mean = RunningMean()
        for trajectory in done.values():
            mean.add(trajectory.outcome)
        with (
            self.run.write_trajectories(name, keep=len(kept)) as file,
            ProgressBar(self._label(name), len(specs), self.run, len(done)) as bar,
        ):

            def finished(trajectory: Trajectory) -> None:
                file.write(trajectory)
                done[_key(trajectory)] = trajectory
                if trajectory.scored:
                    bar.advance(reward=mean.add(trajectory.outcome))
                else:
                    bar.advance()

            for start in range(0, len(waiting), block or 1):
                await rollout(self.episode_setting, policy, waiting[start : start + block], finished)
        return [done[key] for spec in specs if (key := (spec.task.key, spec.sample)) in done]

    def _label(self, name: str) -> str:
        """The label of a progress bar: the stage and the file; an evaluation names the stage that it evaluates."""
        run = self.run
        stage = f"eval of {run.parent.stage}" if run.stage == "eval" and run.parent else run.stage
        return stage if name == run.stage else f"{stage} {name}"


def _key(trajectory: Trajectory) -> tuple[str, int]:
    return trajectory.key, trajectory.sample
