"""Supervised training on rows, shared by SFT and RFT: epochs of shuffled batches, resumed at the step of a kill."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.config import ConfigError, RftConfig, SftConfig
from tau2_exp.learning.selection import epochs
from tau2_exp.stages.learner import Learner
from tau2_exp.stages.progress import ProgressBar
from tau2_exp.types import Row


def fit(learner: Learner, rows: Sequence[Row], stage: SftConfig | RftConfig) -> Sequence[Row]:
    """Train for the stage's epochs on all rows in which a token is trained, and return these.

    Raises ConfigError where there is none.
    """
    whole, rows = len(rows), [row for row in rows if any(row.trained)]
    if not rows:
        raise ConfigError(f"{stage.name}: none of {whole} conversations holds a turn to learn from")
    if len(rows) < whole:
        print(f"{stage.name}: left out {whole - len(rows)} of {whole} conversations: they hold no turn to learn from")
    seed = learner.run.config.seed
    steps = _steps_of(len(rows), stage)
    per_epoch = steps // stage.epochs
    learner.begin(steps)
    with ProgressBar(f"{stage.name} training", steps, learner.run, learner.step) as bar:
        while learner.step < steps:
            epoch, place = divmod(learner.step, per_epoch)
            batch = epochs(len(rows), stage.batch_size, seed, epoch)[place]
            learner.open_step()
            metrics = learner.trainer.sft_step([rows[i] for i in batch])
            learner.advance(metrics | {"epoch": epoch})
            bar.advance(loss=metrics["loss"])
    return rows


def _steps_of(rows: int, stage: SftConfig | RftConfig) -> int:
    return stage.epochs * -(-rows // stage.batch_size)
