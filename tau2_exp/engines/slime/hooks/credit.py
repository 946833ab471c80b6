"""Groups of samples → what slime's trainer multiplies each token's gradient by.

Per-turn credit needs one number a token in the trainer, which is another process on another GPU, and slime passes on
the fields of its own list only: `rewards` is one number a sample, and `metadata` stays behind. It travels as
`teacher_log_probs`, the one field of that list that holds a float for every token of the response, is cut for context
parallelism as the log-probabilities are, goes with its sample through data-parallel partitions and micro-batches, and
is read by nothing but on-policy distillation, which is refused here. The other ways are worse: a sample for each turn
computes the shared past again and again (and changes what a batch is), and a file beside the run would have to be
found and joined by sample index on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tau2_exp.config import RewardConfig
from tau2_exp.engines.slime.hooks.context import Context
from tau2_exp.engines.slime.hooks.samples import by_group, episode_of, reward_of, trajectory_of
from tau2_exp.learning.advantage import GroupCredit, group_credit, step_scale
from tau2_exp.learning.batch import rows_from_trajectory

_FIELD = "teacher_log_probs"


def post_process(context: Context | None, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """(raw rewards, advantages), one each a sample. Advantages are relative to the sample's own group, of any size.

    Faulted samples have 0 and 0, and are in no mean. Where turns may be credited differently, the advantage is the mean
    over the sample's turns, and the sample takes its tokens' own advantages along.
    """
    config = _config(context)
    groups = [_compared(group) for group in by_group(samples)]
    credits = [_credit(group, config) for group in groups]
    scale = step_scale(own for own in credits if own.signal)
    credit: dict[int, tuple[float, ...]] = {}  # by identity: indices may be missing
    for group, own in zip(groups, credits, strict=True):
        for sample, turns in zip(group, own.weighted(own.advantages(scale)), strict=True):
            weight = _weight(context, sample)
            credit[id(sample)] = tuple(weight * a for a in turns)
    if config.per_turn:
        for sample in samples:
            setattr(sample, _FIELD, token_credit(sample, credit.get(id(sample), ())))
    raw = [reward.shaped if (reward := reward_of(sample)) is not None else 0.0 for sample in samples]
    return raw, [_mean(credit.get(id(sample), ())) for sample in samples]


def token_credit(sample: Any, turns: Sequence[float]) -> list[float]:
    """One advantage a token of the response: its turn's where the token is the agent's, 0 elsewhere."""
    episode = episode_of(sample)
    if episode is None or not turns:
        return [sum(turns)] * sample.response_length
    row = rows_from_trajectory(episode.trajectory, turns)
    return list(row.advantages[len(row.ids) - sample.response_length :])


def set_advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Make the credit that came with the samples the trainer's advantages, a tensor each sample.

    Under context parallelism they are this rank's part, as all else in `rollout_data` is. Raises ValueError where
    there is none, or where a teacher's log-probabilities have its place.
    """
    if getattr(args, "use_opd", False):
        raise ValueError("--use-opd: on-policy distillation and credit for each turn need the same field; remove one")
    if _FIELD not in rollout_data:
        raise ValueError(
            "no credit came with the samples: --custom-reward-post-process-path has to be post_process_rewards"
        )
    credit = rollout_data.pop(_FIELD)  # nothing after this is to take it for a teacher's
    rollout_data["returns"] = credit
    rollout_data["advantages"] = list(credit)


def teaches(context: Context | None, samples: Sequence[Any]) -> str | None:
    """None where a group has signal, else the reason why it has none: `faults` or `no_signal`."""
    if len(_compared(samples)) < 2:
        return "faults"
    return None if learned(context, [samples]) else "no_signal"


def learned(context: Context | None, groups: Sequence[Sequence[Any]]) -> list[GroupCredit]:
    """The credit of those groups of samples that there is something to learn from."""
    compared = [scored for group in groups if len(scored := _compared(group)) > 1]
    return [own for scored in compared if (own := _credit(scored, _config(context))).signal]


def _config(context: Context | None) -> RewardConfig:
    return context.config.reward if context else RewardConfig()


def _compared(samples: Sequence[Any]) -> list[Any]:
    """The samples of a group that have a reward: no fault but the agent's ended them."""
    return [sample for sample in samples if reward_of(sample) is not None]


def _credit(samples: Sequence[Any], config: RewardConfig) -> GroupCredit:
    """The credit of one group's samples, which all have a reward."""
    pairs = [(trajectory_of(sample), reward) for sample in samples if (reward := reward_of(sample)) is not None]
    return group_credit(pairs, config)


def _weight(context: Context | None, sample: Any) -> float:
    """The curriculum's weight of the sample's task."""
    episode = episode_of(sample)
    return context.groups.curriculum.weight(episode.trajectory.key) if context and episode else 1.0


def _mean(values: Sequence[float]) -> float:
    if not values or min(values) == max(values):
        return values[0] if values else 0.0
    return math.fsum(values) / len(values)
