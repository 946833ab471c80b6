"""Supervised training through slime: the run's rows as samples, in the epochs that the torch engine goes through."""

from __future__ import annotations

from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.hooks.context import Context
from tau2_exp.engines.slime.hooks.samples import row_sample
from tau2_exp.learning.selection import epochs


def batch(args: Any, context: Context | None, rollout_id: int, evaluation: bool) -> list[list[Any]]:
    """`args.rollout_batch_size` groups of one sample each.

    The last batch of an epoch is filled up from the epoch's beginning, since slime wants all batches of one size.
    Raises ConfigError where there are no rows, or where an evaluation is asked for.
    """
    if evaluation:
        raise ConfigError("--eval-interval: a supervised stage is evaluated after it, as stage=eval; remove the flag")
    if context is None:
        raise ConfigError("--custom-config-path: names no tau2_exp_run, the folder of the run")
    rows, size = context.rows, args.rollout_batch_size
    epoch, place = divmod(rollout_id, -(-len(rows) // size))
    order = [i for indices in epochs(len(rows), size, context.config.seed, epoch) for i in indices]
    chosen = [order[i % len(order)] for i in range(place * size, (place + 1) * size)]
    return [[row_sample(rows[row], rollout_id * size + number)] for number, row in enumerate(chosen)]
