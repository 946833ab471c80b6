"""reward=branch: what is played on from where, what of it is trained on, and that it finds the turn that decides."""

from __future__ import annotations

import asyncio
from statistics import correlation, fmean

import pytest
from players import LockWorld, PressingPolicy, ScriptUser, make_task

from tau2_exp.config import BranchConfig, RewardConfig, RewardKind, RolloutConfig
from tau2_exp.learning.advantage import group_credit, step_scale
from tau2_exp.learning.reward import score
from tau2_exp.report.viewer_episode import read_told
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.groups import play_groups
from tau2_exp.types import Branch, EpisodeSpec, Trajectory, stable_seed

TRUNKS = 6


def play_locks(branch: BranchConfig, policy: PressingPolicy) -> list[list[Trajectory]]:
    """A group for each moment that may decide."""
    place = EpisodeSetting(LockWorld, lambda spec, world: ScriptUser("Open it."), Limits(), RolloutConfig())
    tasks = [make_task(str(moment)) for moment in range(LockWorld.MOMENTS)]
    pairs = [(task, sample) for task in tasks for sample in range(TRUNKS)]
    specs = [EpisodeSpec(t, n, stable_seed(5, t.id, n), i) for i, (t, n) in enumerate(pairs)]
    return asyncio.run(play_groups(place, policy, specs, TRUNKS, branch))


def credit_of(group: list[Trajectory], kind: RewardKind) -> list[tuple[float, ...]]:
    """What each turn of the group's trunks got."""
    config = RewardConfig(kind=kind, alpha=0.0)
    credit = group_credit([(t, score(t, config)) for t in group], config)
    return [turns[: LockWorld.MOMENTS] for turns in credit.advantages(step_scale([credit]))[:TRUNKS]]


def truth_of(group: list[Trajectory]) -> list[tuple[float, ...]]:
    """Q − V of each turn: half a lock's worth at the moment that decides, by the key that was pressed."""
    moments = range(LockWorld.MOMENTS)
    return [
        tuple((0.5 if t.turns[m].text == "b" else -0.5) if m == int(t.task) else 0.0 for m in moments)
        for t in group[:TRUNKS]
    ]


def test_branch_finds_the_turn_that_decides_and_outcome_does_not() -> None:
    branch, outcome, truth = [], [], []
    for group in play_locks(BranchConfig(points=LockWorld.MOMENTS, width=12), PressingPolicy()):
        by_branch, by_outcome = credit_of(group, RewardKind.branch), credit_of(group[:TRUNKS], RewardKind.outcome)
        sizes = [fmean(map(abs, turn)) for turn in zip(*by_branch, strict=True)]
        assert sizes.index(max(sizes)) == int(group[0].task)
        assert all(len(set(turns)) == 1 for turns in by_outcome), "one number for all turns finds none"
        for found, credit in ((branch, by_branch), (outcome, by_outcome), (truth, truth_of(group))):
            found += [number for turns in credit for number in turns]
    assert correlation(branch, truth) > 0.75 > 0.5 > correlation(outcome, truth)


def test_each_point_is_continued_so_often_with_its_prefix_and_a_seed_of_its_own() -> None:
    branch = BranchConfig(points=3, width=2)
    for group in play_locks(branch, PressingPolicy(0.3)):
        trunks, others = group[:TRUNKS], group[TRUNKS:]
        assert [t.sample for t in group] == list(range(len(group))) and len(others) == TRUNKS * 3 * 2
        assert len({t.seed for t in group}) == len(group)
        assert len({t.branch for t in others}) == len(others) and all(t.branch for t in others)
        for trajectory in others:
            assert isinstance(trajectory.branch, Branch) and trajectory.branch.number in (0, 1)
            trunk = trunks[trajectory.branch.trunk]
            first = trajectory.first_turn
            assert first > 0 and trajectory.turns[:first] == trunk.turns[:first]
            assert trajectory.policy_usage.completion_tokens == 10 * (LockWorld.MOMENTS - first)
        assert len({tuple(turn.text for turn in t.turns) for t in others}) > 4


SMALL = (
    "stage=grpo",
    "stage.steps=1",
    "stage.prompts_per_step=2",
    "stage.samples_per_prompt=2",
    "stage.refill=0",
    "reward=branch",
    "reward.unparsable_penalty=0.1",  # what this model's episodes differ by
    "rollout.unparsable_limit=9",
    "domain.max_steps=12",
)


@pytest.mark.parametrize("choice", ["random", "entropy"])
def test_a_run_trains_on_each_turn_once_and_its_file_tells_the_credit(make_run, pupil: Run, choice: str) -> None:
    threshold = ("stage.branch.threshold=0.05",) if choice == "entropy" else ()
    run = make_run(
        *SMALL,
        f"stage.branch.choice={choice}",
        *threshold,
        parent=pupil,
    )
    run_stage(run)
    (record,) = run.metrics()
    told = [group for group in read_told(run, run.folder / "trajectories/rollouts.jsonl") if group]
    played = [one.trajectory for group in told for one in group]
    branches = [t for t in played if t.branch]
    assert len(told) == 2 and branches and len(branches) == record["continuations"] == len(played) - 4
    assert record["sampled_tokens"] == sum(t.policy_usage.completion_tokens for t in played)
    own = [sum(len(turn.tokens.sampled) for turn in t.turns[t.first_turn :] if turn.tokens) for t in _recorded(run)]
    assert record["sampled_tokens"] == sum(own)
    learned = [one for group in told for one in group if one.credit and one.credit.signal]
    assert learned and any(one.credit.advantages[-1] for one in learned if one.trajectory.branch)
    assert all(not any(one.credit.advantages[: one.trajectory.first_turn]) for one in learned)
    places = {(one.trajectory.key, one.trajectory.sample) for one in learned}
    trained = sum(n for n, t in zip(own, _recorded(run), strict=True) if (t.key, t.sample) in places)
    assert record["trained_tokens"] == trained
    if choice == "entropy":
        by_sample = {(t.key, t.sample): t for t in _recorded(run)}
        for t in branches:
            span = by_sample[t.key, t.branch.trunk].turns[t.first_turn].tokens
            assert span is not None and span.entropy is not None and span.entropy > 0.05


def _recorded(run: Run) -> list[Trajectory]:
    return list(run.trajectories("rollouts"))
