"""One run of a plan, with all that must be finished before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tau2_exp.config import Config
from tau2_exp.runs.run import Run, RunStatus


@dataclass
class Step:
    """One run, to be made or found; steps of equal address are one object."""

    config: Config
    address: str
    parent: Step | None = None
    members: tuple[Step, ...] = ()
    run: Run | None = None  # found, or frozen
    fresh: bool = False  # frozen by this command
    name: str | None = None  # of the folder, where one was asked for

    @property
    def stage(self) -> str:
        """The name of the run's stage."""
        return self.config.stage.name

    @property
    def finished(self) -> bool:
        """Whether the run exists and is finished."""
        return self.run is not None and self.run.status is RunStatus.finished

    @property
    def needs(self) -> tuple[Step, ...]:
        """The steps that this one depends on directly: its members, else its parent."""
        return self.members or ((self.parent,) if self.parent else ())

    def lineage(self) -> Iterator[Step]:
        """All steps that this one depends on, then itself: parents first, each once."""
        seen: set[str] = set()

        def visit(step: Step) -> Iterator[Step]:
            if step.address in seen:
                return
            seen.add(step.address)
            for needed in step.needs:
                yield from visit(needed)
            yield step

        yield from visit(self)
