"""Groups are compared with themselves, whatever is left of them; in the trainer a token has its turn's credit."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dialogues import make_trajectory
from slime_contract import MakeRun, arguments, train_data

from tau2_exp.engines.slime.hooks import entry as hooks
from tau2_exp.engines.slime.hooks import samples
from tau2_exp.engines.slime.hooks.context import open_context
from tau2_exp.engines.slime.hooks.samples import Episode, episode_of
from tau2_exp.learning.advantage import GroupCredit, group_credit, step_scale
from tau2_exp.learning.batch import rows_from_trajectory
from tau2_exp.learning.reward import score
from tau2_exp.runs.run import Run
from tau2_exp.types import Fault, FaultSource, Parts, TokenSpan, Trajectory, Turn

SIZES = (4, 1, 3, 2)  # scored episodes of each group; what is missing to 4 ended in a fault


class Letters:
    """A tokenizer that is not asked for much."""

    def decode(self, ids: Any) -> str:
        return "x" * len(ids)


def trajectory(draw: random.Random, task: str) -> Trajectory:
    """Up to five turns of random tokens and progress, and a verdict."""
    turns = []
    for _ in range(draw.randrange(6)):
        context = tuple(draw.randrange(50) for _ in range(draw.randrange(1, 7)))
        sampled = tuple(draw.randrange(50) for _ in range(draw.randrange(1, 9)))
        span = TokenSpan(context, sampled, tuple(draw.uniform(-3, 0) for _ in sampled))
        turns.append(Turn("", (), parts=Parts(env_assertion=draw.choice([0.0, 0.5, 1.0])), tokens=span))
    start = Parts(env_assertion=0.0)
    return make_trajectory(*turns, task=task, domain="telecom", reward=float(draw.random() < 0.5), initial=start)


def rollout(slime: SimpleNamespace, args: Any) -> list[Any]:
    """Samples of several groups, of which some are uneven, in one flat list."""
    context, draw, made = open_context(args), random.Random(3), []
    assert context is not None
    keys = context.groups.curriculum.keys
    for group, size in enumerate(SIZES):
        for number in range(4):
            sample = slime.Sample(group_index=group, index=4 * group + number, prompt=keys[group % 2])
            played = trajectory(draw, keys[group % 2].removeprefix("telecom/"))
            if number < size:
                reward = score(played, context.config.reward)
                samples.write(args, sample, Episode(played, reward), Letters(), evaluation=False)  # type: ignore[arg-type]
            else:
                samples.mark_faulted(sample, samples.unplayed(sample, Fault(FaultSource.USER, "hung up")))
            made.append(sample)
    return made


def expected(args: Any, made: list[Any]) -> list[tuple[float, ...]]:
    """Each sample's advantages a turn as the torch engine's step computes them; of a fault, none."""
    context = open_context(args)
    assert context is not None
    groups = [[episode_of(sample) for sample in made[start : start + 4]] for start in range(0, len(made), 4)]
    credits: list[GroupCredit] = [
        group_credit([(e.trajectory, e.reward) for e in group if e and e.reward], context.config.reward)
        for group in groups
    ]
    scale, found = step_scale(credit for credit in credits if credit.signal), []
    for start, group, credit in zip(range(0, len(made), 4), groups, credits, strict=True):
        given = iter(credit.advantages(scale))
        weight = context.groups.curriculum.weight(made[start].prompt)
        found += [tuple(weight * a for a in next(given)) if e and e.reward else () for e in group]
    return found


OWN = "shaped reward.credit=brought:by_turn"


@pytest.mark.parametrize("kind", ["shaped", "turn_level", "anchor", OWN])
def test_uneven_groups_are_relative_to_themselves(slime: SimpleNamespace, make_run, pupil: Run, kind: str) -> None:
    args = arguments(make_run(*f"reward={kind}".split()), pupil)
    made = rollout(slime, args)
    raw, rewards = hooks.post_process_rewards(args, made)
    assert len(raw) == len(rewards) == len(made) == 16
    for sample, reward, raw_reward, turns in zip(made, rewards, raw, expected(args, made), strict=True):
        assert reward == (pytest.approx(sum(turns) / len(turns)) if turns else 0.0)
        assert raw_reward == sample.reward and isinstance(raw_reward, float)
        if sample.remove_sample and sample.status.name == "FAILED":
            assert raw_reward == reward == 0.0
    assert rewards[4] == 0.0, "what is alone in its group has nothing to be compared with"
    order = random.Random(1).sample(range(16), 16)
    shuffled = hooks.post_process_rewards(args, [made[i] for i in order])[1]
    assert shuffled == pytest.approx([rewards[i] for i in order], abs=1e-12), "groups are told by their index"


def test_the_curriculum_says_how_much_a_task_counts(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("reward=shaped", "curriculum=reference"), pupil)
    made = rollout(slime, args)
    even = hooks.post_process_rewards(args, made)[1]
    context = open_context(args)
    assert context is not None
    context.groups.curriculum.record(made[0].prompt, [1.0] * 5)
    weighed = hooks.post_process_rewards(args, made)[1]
    for sample, before, after in zip(made, even, weighed, strict=True):
        assert after == pytest.approx(before * (0.1 if sample.prompt == made[0].prompt else 1.0))


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("kind", ["turn_level", "anchor", "shaped", OWN])
def test_each_token_in_the_trainer_has_its_turns_credit(
    slime: SimpleNamespace, make_run: MakeRun, pupil: Run, kind: str, ranks: int
) -> None:
    """Through what slime sends each rank, per-token advantages equal those of the torch engine's rows, bit for bit."""
    args = arguments(make_run(*f"reward={kind}".split()), pupil)
    made = rollout(slime, args)
    rewards = hooks.post_process_rewards(args, made)[1]
    credit = expected(args, made)
    seen = set()
    for data in train_data(slime, made, rewards, ranks):
        if kind != "shaped":
            hooks.turn_advantages(args, data)
            assert "teacher_log_probs" not in data, "nothing later takes it for a teacher's"
        else:
            data["advantages"] = [
                torch.full((n,), r) * torch.as_tensor(mask)
                for r, n, mask in zip(data["rewards"], data["response_lengths"], data["loss_masks"], strict=True)
            ]
            data["returns"] = data["advantages"]
        for place, index in enumerate(data["partition"]):
            found = data["advantages"][place]
            assert found.dtype == torch.float32 and found.shape == (made[index].response_length,)
            assert torch.equal(found, data["returns"][place])
            assert torch.equal(found, torch.tensor(_row_credit(made[index], credit[index]), dtype=torch.float32))
            seen.add(index)
    assert seen == set(range(16))
    if kind != "shaped":
        assert any(len(set(turns)) > 1 for turns in credit), "turns of one episode differ"


def _row_credit(sample: Any, turns: tuple[float, ...]) -> tuple[float, ...]:
    """The advantages of the torch engine's row, behind its prompt."""
    episode = episode_of(sample)
    if episode is None or not turns:
        return (0.0,) * sample.response_length
    row = rows_from_trajectory(episode.trajectory, turns)
    assert list(row.ids) == sample.tokens
    return row.advantages[len(row.ids) - sample.response_length :]


def test_turn_credit_refuses_what_it_cannot_do(slime: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="post_process_rewards"):
        hooks.turn_advantages(SimpleNamespace(use_opd=False), {"rewards": [1.0]})
    with pytest.raises(ValueError, match="--use-opd"):
        hooks.turn_advantages(SimpleNamespace(use_opd=True), {"teacher_log_probs": []})


def group(slime: SimpleNamespace, *rewards: float) -> list[Any]:
    """Samples that another function than ours made."""
    return [slime.Sample(group_index=0, index=i, reward=reward) for i, reward in enumerate(rewards)]


def test_groups_without_signal_are_refused_up_to_the_bound(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("stage.refill=2"), pupil)
    same, apart = group(slime, 1.0, 1.0, 1.0), group(slime, 1.0, 0.0, 1.0)
    source = hooks.DataSource(args)
    assert source.context is not None
    for _ in range(2):
        refused = [hooks.filter_group(args, same) for _ in range(2 * 2)]
        assert [(answer.keep, answer.reason) for answer in refused] == [(False, "no_signal")] * 4
        assert hooks.filter_group(args, same).keep, "the bound of refills: a rollout ends"
        assert hooks.filter_group(args, apart).keep
        source.context.groups.step(0, drop=True)


def test_credit_of_ones_own_says_whether_there_is_signal(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    for path, reason in (("by_turn", None), ("nothing", "no_signal")):
        args = arguments(make_run("reward=shaped", f"reward.credit=brought:{path}", "stage.refill=1"), pupil)
        assert hooks.filter_group(args, rollout(slime, args)[:4]).reason == reason


def test_what_slime_calls_without_a_run_is_answered_as_slime_would(slime: SimpleNamespace) -> None:
    args = SimpleNamespace()
    assert hooks.filter_group(args, group(slime, 1.0, 2.0)).keep
    assert not hooks.filter_group(args, group(slime, 1.0, 1.0)).keep
    raw, rewards = hooks.post_process_rewards(args, group(slime, 0.5, 1.5))
    assert raw == [0.5, 1.5] and rewards == pytest.approx([-(0.5**0.5), 0.5**0.5])


def test_faults_are_no_signal(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("reward=shaped", "stage.refill=1"), pupil)
    made = rollout(slime, args)
    assert hooks.filter_group(args, made[4:8]).reason == "faults", "one episode of four is left"
