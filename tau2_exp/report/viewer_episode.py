"""One recorded episode as the viewer shows it: messages, calls, and the score and the advantage of each turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode
from tau2_exp.config import ConfigError, CurriculumKind, RewardConfig
from tau2_exp.jsonl import read_jsonl
from tau2_exp.learning.advantage import Scale
from tau2_exp.learning.reward import potentials, score
from tau2_exp.plugins import load
from tau2_exp.report.checks import list_checks
from tau2_exp.report.credit import Credit, credit, cut_groups, scales_of, steps_of
from tau2_exp.report.tree import trees
from tau2_exp.runs.run import Run
from tau2_exp.types import Criteria, Reward, Trajectory

_REWARD = ("outcome", "partial", "shaped", "alpha")
_IN_NO_GROUP = {
    "eval": "Evaluation episode: no GRPO group, so no advantage.",
    "demos": "Demonstration: no GRPO group, so no advantage. SFT weights all turns of a conversation equally.",
    "rft": "RFT sample: no GRPO group, so no advantage. All turns of a kept sample count equally.",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A recorded episode with its reward, its step of GRPO and its credit."""

    record: dict[str, Any]  # the trajectory as it was recorded, less its tokens
    trajectory: Trajectory
    reward: Reward | None  # None after a fault that is not the agent's
    step: int | None = None  # of GRPO, from 1; None before the step was finished
    credit: Credit | None = None
    tree: dict[str, Any] | None = None  # what was played on from it, or what it is a part of


def read_recorded(path: Path) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """The records of a file without their tokens, and the trajectories that they are.

    Raises ConfigError, naming the file, where a line is no trajectory.
    """
    try:
        for record in read_jsonl(path):
            for turn in record["turns"]:
                turn.pop("tokens", None)
            yield record, decode(Trajectory, record)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def read_told(run: Run, path: Path) -> Iterator[list[Told]]:
    """The episodes of a run's file: by groups where they were sampled for GRPO, else one by one.

    Raises ConfigError, naming the file, where a line is no trajectory.
    """
    if run.stage != "grpo":
        yield from ([told] for told in _read(run, path))
        return
    ends, scales = steps_of(run), scales_of(run)
    for step, group in cut_groups(_read(run, path), ends, lambda told: told.trajectory):
        scale = scales[step - 1] if step is not None else None
        yield _credited([replace(told, step=step) for told in group], run.config.reward, scale)


def episode_record(told: Told, run: Run, criteria: Criteria | None) -> dict[str, Any]:
    """The recorded trajectory with its rewards, checks and credit, turn by turn, as JSON data."""
    trajectory, given, config = told.trajectory, told.credit, run.config.reward
    phi = potentials(trajectory, config)
    turns = []
    for i, turn in enumerate(told.record["turns"]):
        earned = {"phi": phi[i + 1], "progress": phi[i + 1] - phi[i]}
        turns.append(turn | earned | ({"advantage": given.advantages[i], "own": given.own[i]} if given else {}))
    return told.record | {
        "turns": turns,
        "phi": phi[0],
        "reward": told.reward and {name: getattr(told.reward, name) for name in _REWARD},
        "checks": [_flat(check) for check in list_checks(trajectory, criteria)],
        "tree": told.tree,
        "group": given and {"samples": given.samples, "signal": given.signal},
        "weights": _flat(config.domain_weights.get(trajectory.domain, config.weights)),
        "note": _note(told, run),
    }


def _credited(group: Sequence[Told], config: RewardConfig, scale: Scale | None) -> list[Told]:
    """The group with its credit, and the trees of its branches; without credit, where the step's scale is not known."""
    given: list[Credit | None] = [None] * len(group)
    if scale is not None:
        given = credit([(told.trajectory, told.reward) for told in group], config, scale)
    grown = trees([(told.trajectory, told.reward, own) for told, own in zip(group, given, strict=True)])
    return [replace(told, credit=own, tree=tree) for told, own, tree in zip(group, given, grown, strict=True)]


def _read(run: Run, path: Path) -> Iterator[Told]:
    here = _is_reward_here(run)
    for record, trajectory in read_recorded(path):
        yield Told(record, trajectory, score(trajectory, run.config.reward) if trajectory.scored and here else None)


def _is_reward_here(run: Run) -> bool:
    """False where a function of the user's gave the reward or the credit, and its source is gone or has changed."""
    reward = run.config.reward
    if reward.function is None and reward.credit is None:
        return True
    try:
        run.reach_plugins()
        for key, path in (("reward.function", reward.function), ("reward.credit", reward.credit)):
            if path is not None:
                load(key, path)
    except ConfigError:
        return False
    return True


def _flat(made: Any) -> dict[str, Any]:
    """The JSON data of a dataclass that holds no other; asdict would copy each field deeply."""
    return {field.name: getattr(made, field.name) for field in fields(made)}


def _note(told: Told, run: Run) -> str:
    """A sentence about the episode's advantages."""
    if run.stage != "grpo":
        return _IN_NO_GROUP.get(run.stage, "")
    if told.reward is not None and told.step is None:
        return "Its step was not finished, so its advantage is not known."
    if told.credit is None and told.reward is not None:
        return "An earlier version computed its advantage, by another formula of turn_level; it is not shown."
    if told.credit is None and told.trajectory.scored:
        return "What rewarded it was a function of the user's own, whose source is not here as it was."
    if told.credit is None:
        return "A fault outside the agent ended this episode, so it has no group and no advantage."
    if told.credit.samples == 1:
        return "The only scored episode of its group: there is nothing to compare it with, so its advantage is 0."
    if not told.credit.signal:
        return "No episode of its group did better than another, so it was not trained on."
    if (branch := told.trajectory.branch) is not None:
        return (
            f"Goes on from sample {branch.trunk + 1} before turn {branch.turn + 1}: what comes earlier is context, and "
            "was not trained on again. Its own turns got its outcome less the mean of its siblings and its trunk. In "
            "training, what was played from one point on shares the weight of one episode."
        )
    if told.tree is not None:
        return (
            "What was played on from its turns credits them: each got V̂ after its stretch less V̂ before it. At the "
            "start the mean of the task's other whole episodes stands for V̂, at the end its own outcome. In training, "
            "what was played from one point on shares the weight of one episode."
        )
    weighed = ", before the curriculum's weight" if run.config.curriculum.kind is CurriculumKind.reference else ""
    return f"Advantages relative to its group of {told.credit.samples} episodes{weighed}."
