"""slime's `Sample` and what we keep in it. Token ids and log-probabilities go over as they were sampled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tau2_exp.interfaces import Tokenizer
from tau2_exp.types import Fault, Reward, Row, StopReason, Trajectory, Turn

KEY = "tau2_exp"  # of a sample's metadata: its Episode
_TRUNCATED = (StopReason.MAX_STEPS, StopReason.CONTEXT_FULL)


@dataclass(frozen=True, slots=True)
class Episode:
    """The episode of a sample; `reward` is None where a fault that is not the agent's ended it."""

    trajectory: Trajectory
    reward: Reward | None


def episode_of(sample: Any) -> Episode | None:
    """The episode of a sample; None where another function than ours made the sample."""
    return (sample.metadata or {}).get(KEY)


def reward_of(sample: Any) -> Reward | None:
    """The reward of a sample; None where it has none. A number from another function counts as one turn's reward."""
    episode = episode_of(sample)
    if episode is not None:
        return episode.reward
    if not isinstance(sample.reward, (int, float)):
        return None
    return Reward(outcome=sample.reward, partial=0.0, shaped=sample.reward, progress=(0.0,), alpha=0.0)


def trajectory_of(sample: Any) -> Trajectory:
    """The trajectory of a sample; of another function's, one turn of which nothing is known."""
    episode = episode_of(sample)
    return _record(sample, (Turn("", ()),), StopReason.AGENT_STOP) if episode is None else episode.trajectory


def task_key(sample: Any) -> str:
    """The `Task.key` of a sample: from its metadata (a line of the task index), else its prompt."""
    data = sample.metadata or {}
    return f"{data['domain']}/{data['task']}" if "domain" in data and "task" in data else str(sample.prompt)


def clear(sample: Any) -> None:
    """Remove an attempt that slime ended: an episode cannot be resumed in the middle."""
    sample.tokens, sample.response, sample.response_length = [], "", 0
    sample.loss_mask = sample.rollout_log_probs = sample.reward = None
    sample.remove_sample = False


def write(args: Any, sample: Any, episode: Episode, tokenizer: Tokenizer, evaluation: bool) -> None:
    """Put a scored episode into its sample.

    The first turn's context is the prompt, all after it the response: loss mask 1 and the sampler's log-probability
    where the token is the agent's, else 0 and 0. `reward` is the shaped reward; in an evaluation the outcome.
    """
    trajectory, reward = episode.trajectory, episode.reward
    assert reward is not None
    for number, turn in enumerate(trajectory.turns):
        assert turn.tokens is not None
        if number == 0:
            sample.tokens = list(turn.tokens.context)
        else:
            sample.append_response_tokens(args, tokens=turn.tokens.context, trainable=False)
        sample.append_response_tokens(args, tokens=turn.tokens.sampled, log_probs=turn.tokens.log_probs, trainable=True)
    if not trajectory.turns:
        _stand_in(sample)
    sample.response = tokenizer.decode(sample.tokens[len(sample.tokens) - sample.response_length :])
    sample.reward = reward.outcome if evaluation else reward.shaped
    sample.status = _status(sample, "TRUNCATED" if trajectory.stop in _TRUNCATED else "COMPLETED")
    sample.non_generation_time = max(0.0, trajectory.seconds - sum(turn.policy_seconds for turn in trajectory.turns))
    sample.metadata = {**(sample.metadata or {}), KEY: episode}


def mark_faulted(sample: Any, trajectory: Trajectory) -> None:
    """A sample that a fault took out of its group: nothing in it is trained on, and its reward enters no baseline.

    slime wants every sample of a group to have tokens and a number for its reward.
    """
    clear(sample)
    _stand_in(sample)
    sample.reward, sample.status = 0.0, _status(sample, "FAILED")
    sample.metadata = {**(sample.metadata or {}), KEY: Episode(trajectory, None)}


def end(sample: Any) -> None:
    """A sample that slime itself ended: it runs from the beginning another time, or never."""
    clear(sample)
    sample.status = _status(sample, "ABORTED")


def unplayed(sample: Any, fault: Fault) -> Trajectory:
    """The record of an episode that did not even begin."""
    return _record(sample, (), StopReason.FAULT, fault)


def row_sample(row: Row, index: int) -> Any:
    """A conversation to learn from, as slime's supervised loss takes it: the response begins where training does."""
    from slime.utils.types import Sample

    first = row.trained.index(True)
    sample = Sample(group_index=index, index=index, tokens=list(row.ids))
    sample.response_length = len(row.ids) - first
    sample.loss_mask = [int(trained) for trained in row.trained[first:]]
    sample.reward, sample.status = 0.0, Sample.Status.COMPLETED
    return sample


def by_group(samples: Iterable[Any]) -> list[list[Any]]:
    """The samples of each group, in their order; samples without a group form one together."""
    groups: dict[int | None, list[Any]] = {}
    for sample in samples:
        groups.setdefault(sample.group_index, []).append(sample)
    return list(groups.values())


def _record(sample: Any, turns: tuple[Turn, ...], stop: StopReason, fault: Fault | None = None) -> Trajectory:
    domain, _, task = task_key(sample).partition("/")
    return Trajectory(task, domain, 0, 0, (), turns, stop, None, fault=fault)


def _stand_in(sample: Any) -> None:
    """Two tokens of which none is trained on: slime cuts a response out of every sample."""
    sample.tokens, sample.response_length = [0, 0], 1
    sample.loss_mask, sample.rollout_log_probs = [0], [0.0]
    sample.remove_sample = True


def _status(sample: Any, name: str) -> Any:
    return type(sample).Status[name]
