"""What every stage needs of its run: its scenery, and episodes collected to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tau2_exp.config import EngineConfig, EngineName, PolicyKind, UserKind
from tau2_exp.rollout import rollout
from tau2_exp.rundir import Run
from tau2_exp.scenery import Scenery
from tau2_exp.stages.progress import Progress, RunningMean
from tau2_exp.types import Policy, Seat, Trajectory


class Studio(Scenery):
    """The scenery of one run, and its episodes collected to disk."""

    def __init__(self, run: Run):
        super().__init__(run)
        run.record(provider=self.provider)

    @property
    def has_parent_model(self) -> bool:
        return self.run.parent is not None and "model" in self.run.parent.results

    @property
    def lockstep(self) -> bool:
        """Whether episodes can be repeated bit for bit: nothing in them waits for another machine."""
        config = self.config
        own = config.policy.kind is PolicyKind.model and config.engine.name is EngineName.torch
        local = own or config.policy.kind is PolicyKind.oracle
        return config.engine.lockstep and local and config.user.kind is UserKind.scripted

    @property
    def engine(self) -> EngineConfig:
        """The engine's settings for these episodes: no lockstep where it would wait for another machine."""
        return dataclasses.replace(self.config.engine, lockstep=self.lockstep)

    async def collect(self, name: str, policy: Policy, seats: Sequence[Seat]) -> list[Trajectory]:
        """Play the seats into trajectories/NAME.jsonl and return them in order; what a killed run has is kept.

        What a fault spoiled in an earlier attempt is played again. Missing are those that a budget left unplayed.

        Where episodes repeat bit for bit they are played in blocks, and a block cut short is played
        again whole, since what is decoded together decides the last bits.
        """
        seats = list(seats)
        block = 2 * self.config.rollout.concurrency if self.lockstep else len(seats)
        kept = list(self.run.read_trajectories(name))
        if self.lockstep:
            kept = kept[: len(kept) // block * block] if len(kept) < len(seats) else kept
        done = {_key(t): t for t in kept if t.scored}
        waiting = [seat for seat in seats if (seat.task.key, seat.sample) not in done]
        mean = RunningMean()
        for trajectory in done.values():
            mean.add(trajectory.outcome)
        with (
            self.run.trajectories(name, keep=len(kept)) as file,
            Progress(name, len(seats), self.run.folder, len(done)) as bar,
        ):

            def finished(trajectory: Trajectory) -> None:
                file.write(trajectory)
                done[_key(trajectory)] = trajectory
                if trajectory.scored:
                    bar.advance(reward=mean.add(trajectory.outcome))
                else:
                    bar.advance()

            for start in range(0, len(waiting), block or 1):
                await rollout(self.scene, policy, waiting[start : start + block], finished)
        return [done[key] for seat in seats if (key := (seat.task.key, seat.sample)) in done]


def _key(trajectory: Trajectory) -> tuple[str, int]:
    return trajectory.key, trajectory.sample
