"""Before arms are compared, the report says how far apart the credit is that they give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recorded import episode, record

from tau2_exp.report.collect import collect
from tau2_exp.report.findings import find
from tau2_exp.report.terminal import report_text
from tau2_exp.report.treatments import correlation, correlation_with_outcome, distances
from tau2_exp.types import Branch


def test_arms_of_one_treatment_are_named(tmp_path: Path) -> None:
    """Solved episodes make their progress early here, so that turns and outcome say different things of late turns."""
    solved = [episode("a", s, [0.5, 1.0, 1.0, 1.0], 1.0) for s in (0, 1)]
    failed = [episode("a", s, [0.0, 0.0, 0.5, 0.5]) for s in (2, 3)]
    steps = [{"episodes": 4, "groups": 1}]
    arms = {
        "outcome": ["reward=outcome"],
        "shaped": ["reward=shaped"],
        "little": ["reward=turn_level", "reward.alpha=0.05"],
        "much": ["reward=turn_level", "reward.alpha=2"],
    }
    runs = {
        name: record(tmp_path / name, ["stage=grpo", *settings], {"rollouts": [*solved, *failed]}, steps)
        for name, settings in arms.items()
    }
    collection = collect([run.folder for run in runs.values()])
    label = {name: collection.of(run).arm for name, run in runs.items()}
    found = {frozenset((d.a, d.b)): d for d in distances(collection)}
    assert len(found) == 6 and {d.turns for d in found.values()} == {32}, "each on the episodes of both"
    one = found[frozenset((label["outcome"], label["little"]))]
    other = found[frozenset((label["outcome"], label["much"]))]
    assert one.alike and not other.alike and other.correlation < one.correlation
    told = report_text(find(collection))
    assert one.warning in " ".join(told.split()) and other.warning not in " ".join(told.split())


def test_a_run_whose_episodes_are_damaged_is_left_out(tmp_path: Path) -> None:
    group = [episode("a", s, [0.5 * s], float(s)) for s in (0, 1)]
    steps = [{"episodes": 2, "groups": 1}]
    whole = record(tmp_path / "whole", ["stage=grpo", "reward=outcome"], {"rollouts": group}, steps)
    torn = record(tmp_path / "torn", ["stage=grpo", "reward=shaped"], {"rollouts": group}, steps)
    (torn.folder / "trajectories/rollouts.jsonl").write_text('{"task": 3}\n')
    assert [d.turns for d in distances(collect([whole.folder, torn.folder]))] == [2]


def test_no_one_seed_decides(tmp_path: Path) -> None:
    """The turns of the first seed progress where the episode is solved, those of the second where it is not."""
    steps = [{"episodes": 2, "groups": 1}] * 4
    like = [episode("a", s, [float(s)], float(s)) for s in (0, 1)] * 4
    unlike = [episode("a", s, [1.0 - s], float(s)) for s in (0, 1)] * 4
    folders = [
        record(tmp_path / f"{name}-{seed}", ["stage=grpo", *reward, f"seed={seed}"], {"rollouts": group}, steps).folder
        for name, reward in (("outcome", ["reward=outcome"]), ("turns", ["reward=turn_level", "reward.alpha=4"]))
        for seed, group in enumerate((like, unlike))
    ]
    (first,) = distances(collect(folders[::2]))
    (both,) = distances(collect(folders))
    assert first.alike and not both.alike


def test_the_outcome_that_a_run_is_held_against_is_the_arm_of_that_name(tmp_path: Path) -> None:
    """Groups of other deviations differ by what they are divided by."""
    groups = [[episode(task, s, [0.0], float(s < solved)) for s in range(4)] for task, solved in (("a", 1), ("b", 2))]
    steps = [{"episodes": 8, "groups": 2}]
    words = ["stage=grpo", "reward=outcome", "reward.outcome_over_deviation=false"]
    run = record(tmp_path / "plain", words, {"rollouts": [t for group in groups for t in group]}, steps)
    found = correlation_with_outcome(run)
    assert found is not None and 0.9 < found < 0.9999


def test_correlation_is_pearsons() -> None:
    assert correlation([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]) == pytest.approx(1.0)
    assert correlation([0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]) == pytest.approx(0.0)
    assert correlation([1.0, 1.0], [0.0, 1.0]) is None


def test_branches_are_compared_on_whole_episodes_that_were_played_on_from(tmp_path: Path) -> None:
    """Elsewhere `branch` has nothing to say but the outcome, and the two would look like one treatment."""
    trunks = [episode("a", s, [0.0] * 4, 1.0 - s) for s in (0, 1)]
    others = [
        replace(episode("a", 2 + number, [0.0] * 5, outcome), branch=Branch(0, 2, number))
        for number, outcome in enumerate((1.0, 1.0))
    ]
    by_branch, by_outcome = ["stage=grpo", "reward=branch"], ["stage=grpo", "reward=outcome"]
    runs = [
        record(tmp_path / "one", by_branch, {"rollouts": [*trunks, *others]}, [{"episodes": 4, "groups": 1}]),
        record(tmp_path / "other", by_outcome, {"rollouts": trunks}, [{"episodes": 2, "groups": 1}]),
    ]
    (found,) = distances(collect([run.folder for run in runs]))
    # (1, 1, 0, 0, −1, −1, −1, −1) beside (1, 1, 1, 1, −1, −1, −1, −1)
    assert found.turns == 8 and found.correlation == pytest.approx(6 / 44**0.5)
