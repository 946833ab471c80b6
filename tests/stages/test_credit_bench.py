"""The bench of credit knows the truth: in worlds whose answer is known, and through the command as a user gives it."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from players import LockWorld, PressingPolicy, ScriptUser, make_task

from tau2_exp.__main__ import main
from tau2_exp.config import BranchConfig, ConfigError, PartWeights, RewardConfig, RolloutConfig
from tau2_exp.evaluation.credit_bench import Bench, MeasuredGroup, estimators, judge
from tau2_exp.interfaces import World
from tau2_exp.jsonl import read_jsonl
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting
from tau2_exp.runs.run import Run
from tau2_exp.stages.credit_bench import BenchPlan, measure_group
from tau2_exp.stages.credit_command import named_tasks
from tau2_exp.types import Message, Parts, Task


class MisleadingWorld(LockWorld):
    """A lock whose assertions come true by the keys that do not open it."""

    def parts(self, messages: list[Message]) -> Parts:
        return Parts(env_assertion=self.pressed.count("a") / self.MOMENTS)


def measure(world: type[World]) -> list[MeasuredGroup]:
    """One group for each moment that may decide, every turn of four of its episodes or so."""
    setting = EpisodeSetting(world, lambda spec, world: ScriptUser("Open it."), Limits(), RolloutConfig())
    plan = BenchPlan(turns=24, continuations=24, branch=BranchConfig(points=6, width=8), seed=1)
    tasks = [make_task(str(moment)) for moment in range(LockWorld.MOMENTS)]

    async def play(task: Task) -> MeasuredGroup:
        return await measure_group(setting, PressingPolicy(), task, plan)

    return [asyncio.run(play(task)) for task in tasks]


def corrected(bench: Bench) -> dict[str, float]:
    return {one.name: one.corrected for one in bench.judgements if one.corrected is not None}


def test_the_turn_that_decides_is_found_by_the_bench_and_by_branch_and_not_by_outcome() -> None:
    groups = measure(LockWorld)
    for moment, group in enumerate(groups):
        sizes = {turn: [] for turn in range(LockWorld.MOMENTS + 1)}
        for turn in group.turns:
            sizes[turn.turn].append(abs(turn.advantage))
            right = group.episodes[turn.episode].turns[turn.turn].text == "b"
            if turn.turn == moment:
                assert turn.advantage == pytest.approx(0.5 if right else -0.5, abs=0.35) and turn.error < 0.15
        means = {turn: sum(found) / len(found) for turn, found in sizes.items() if found}
        assert max(means, key=lambda turn: means[turn]) == moment
    bench = judge([groups], estimators(RewardConfig()))
    found = corrected(bench)
    assert 0.65 < bench.reliability < 1 and bench.doubts == [] and bench.groups == 6
    assert found["branch"] > 0.6 > 0.4 > found["outcome"] > 0.1
    branch = next(one for one in bench.judgements if one.name == "branch")
    outcome = bench.judgements[0]
    assert branch.gain_interval and branch.gain_interval[0] > 0 and branch.tokens > outcome.tokens > 0
    assert branch.sign and outcome.sign and branch.noise and outcome.noise
    assert branch.noise < outcome.noise


def test_progress_that_misleads_is_told() -> None:
    found = corrected(judge([measure(MisleadingWorld)], estimators(RewardConfig())))
    assert found["turn_level alpha=2 baseline=state"] < found["outcome"] < found["branch"]
    assert found["turn_level alpha=2 baseline=group"] < 0.1


def test_an_estimator_is_what_its_name_says_whatever_the_run_was_trained_with() -> None:
    weights = {"telecom": PartWeights(action=1.0)}
    run = RewardConfig(
        outcome_over_deviation=False, turn_discount=0.5, unparsable_penalty=0.3, domain_weights=weights, alpha=3.0
    )
    assert estimators(run) == estimators(RewardConfig(domain_weights=weights))


def test_a_task_is_named_by_its_domain_where_its_id_alone_is_of_two() -> None:
    retail, airline, other = (
        replace(make_task(name), domain=domain) for name, domain in (("0", "retail"), ("0", "airline"), ("1", "retail"))
    )
    tasks = [retail, airline, other]
    assert named_tasks(["airline/0", "1", "retail/1"], tasks, "train") == [airline, other]
    with pytest.raises(ConfigError, match="write retail/0 or airline/0"):
        named_tasks(["0"], tasks, "train")


def test_several_runs_are_judged_as_one(pupil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = shutil.copytree(pupil.folder, tmp_path / "twin", symlinks=True)
    words = ["credit", str(pupil.folder), str(twin), "--turns", "2", "--continuations", "2", "--groups", "1"]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    assert f"({pupil.folder.name}, twin)" in capsys.readouterr().out
    (first,), (second,) = (
        list(read_jsonl(tmp_path / "both" / run / "groups.jsonl")) for run in (pupil.folder.name, "twin")
    )
    assert first["task"] != second["task"] or first["group"] != second["group"], "each run has a seed of its own"
    twice = ["credit", str(twin), str(twin), "--out", "x"]
    for wrong, why in ((words, "say where the joint results"), (twice, "named twice")):
        assert main(wrong) == 2 and why in capsys.readouterr().err


def test_too_few_continuations_allow_no_conclusion() -> None:
    setting = EpisodeSetting(LockWorld, lambda spec, world: ScriptUser("Open it."), Limits(), RolloutConfig())
    plan = BenchPlan(turns=6, continuations=2, branch=BranchConfig(), seed=1)
    bench = judge(
        [[asyncio.run(measure_group(setting, PressingPolicy(0.02), make_task("0"), plan))]], estimators(RewardConfig())
    )
    assert any("no conclusion" in doubt for doubt in bench.doubts) and any("too few" in doubt for doubt in bench.doubts)


def test_a_run_is_measured_and_a_killed_bench_goes_on(
    pupil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(*words: str) -> tuple[int, str, str]:
        options = ["--turns", "2", "--continuations", "2", "--out", str(tmp_path / "bench"), *words]
        status = main(["credit", str(pupil.folder), *options])
        told = capsys.readouterr()
        return status, told.out, told.err

    status, whole, _ = bench("--groups", "2")
    assert status == 0 and "turn_level alpha=1 baseline=state" in whole and "no conclusion" in whole
    lines = (tmp_path / "bench/groups.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    (tmp_path / "bench/groups.jsonl").write_bytes(lines[0] + lines[1][:100])
    status, again, _ = bench("--groups", "2")
    assert status == 0 and "1/2 groups" not in again and "2/2 groups" in again
    assert (tmp_path / "bench/groups.jsonl").read_bytes().splitlines(keepends=True)[0] == lines[0]
    assert (tmp_path / "bench/credit.csv").read_text().count("\n") == 13
    for words, why in (
        (["--seed", "1"], "other settings"),
        (["--tasks", "none"], "has no task of that id"),
        (["--continuations", "1"], "must be 2 or more"),
        (["--temperature", "0"], "must be above 0"),
    ):
        status, _, error = bench(*words)
        assert status == 2 and why in error and error.count("\n") == 1
    demos = pupil.parent
    assert demos is not None and main(["credit", str(demos.folder), "--out", str(tmp_path / "none")]) == 2
    assert "has no model" in capsys.readouterr().err and not (tmp_path / "none").exists(), (
        "nothing is left of a refusal"
    )
