"""Evaluations merge where they are parts of one plan, played by one agent; else they are refused, by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from evaluations import evaluated, frozen

from tau2_exp.codec import encode
from tau2_exp.config import ConfigError
from tau2_exp.evaluation.merge import merge
from tau2_exp.evaluation.plan import Plan, limit_facts, read_plan, user_facts
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def small(outputs: Path) -> Run:
    return evaluated(outputs / "small", "domain.limit=1")


@pytest.fixture(scope="module")
def large(outputs: Path) -> Run:
    return evaluated(outputs / "large", "stage.greedy=false", "stage.samples_per_prompt=4")


def test_parts_of_one_plan_become_one_result(outputs: Path, small: Run, large: Run) -> None:
    retail = evaluated(outputs / "retail", "domain=retail", "domain.limit=1", "stage.samples_per_prompt=4")
    whole = merge([small, large, retail], "whole")
    assert whole.folder == outputs / "whole" and whole.members[2].folder == retail.folder
    splits = whole.results["splits"]
    assert list(splits) == ["test", "telecom test", "retail test"]
    assert [splits[name]["tasks"] for name in splits] == [3, 2, 1]
    assert splits["telecom test"]["outcomes"] == large.results["splits"]["test"]["outcomes"]
    assert splits["retail test"]["measures"]["pass@4"] == retail.results["splits"]["test"]["measures"]["pass@4"]
    assert splits["test"]["greedy_outcomes"].keys() == {
        *small.results["splits"]["test"]["greedy_outcomes"],
        *retail.results["splits"]["test"]["greedy_outcomes"],
    }
    assert len(list(whole.trajectories("test"))) == 12, "an episode of two runs counts once"
    assert merge([whole, small], "again").results["plan"] == whole.results["plan"]


def test_what_is_not_played_yet_is_missing_and_no_number(outputs: Path, large: Run) -> None:
    killed = [frozen(outputs / f"killed{limit}", "seed=7", f"domain.limit={limit}") for limit in (1, 2)]
    for run in killed:
        write_json(run.folder / "plan.json", encode(read_plan(large.folder)))
    half = merge(killed, "half")
    assert half.results["splits"]["test"]["measures"]["pass@1"] == {"value": None, "missing": 8, "tasks": 2}
    assert "8 episodes of the plan were not run" in half.table


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["seed=1"], r"test-greedy: telecom/.*, sample 0 has seed \d+ and \d+"),
        (["user=litellm", "user.model=m"], "user: kind is scripted and litellm"),
        (["domain.max_steps=50"], "limits: max_steps is 140 and 50"),
        (["policy.oracle=workflow"], "policy.oracle is gold and workflow"),
        (["stage.temperature=0.1"], r"stage.temperature is .* and 0.1"),
        (["domain.document=full"], "domain.document is none and full"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_differs_is_named(outputs: Path, tmp_path: Path, small: Run, overrides: list[str], why: str) -> None:
    other = frozen(tmp_path / "other", "domain.limit=1", *overrides)
    plan = read_plan(small.folder)
    plan = dataclasses.replace(plan, user=user_facts(other.config.user), limits=limit_facts(other.config))
    if overrides == ["seed=1"]:
        plan = reseeded(plan)
    write_json(other.folder / "plan.json", encode(plan))
    with pytest.raises(ConfigError, match=why):
        merge([small, other], "refused")
    assert not (outputs / "refused").exists()


def test_evaluations_of_other_seeds_are_refused_though_no_episode_is_in_both(tmp_path: Path, small: Run) -> None:
    retail = evaluated(tmp_path / "retail", "domain=retail", "domain.limit=1", "seed=5")
    with pytest.raises(ConfigError, match="seed is 0 and 5"):
        merge([small, retail], "refused")


def test_another_task_revision_is_refused_and_so_is_what_is_no_evaluation(outputs: Path, small: Run) -> None:
    later = frozen(outputs / "later", "seed=3")
    write_json(later.folder / "plan.json", encode(dataclasses.replace(read_plan(small.folder), revision="tau2@1.0")))
    with pytest.raises(ConfigError, match=r"cannot be merged: task revision tau2-bench@337326e and tau2@1\.0"):
        merge([small, later], "refused")
    demos = frozen(outputs / "demos", "seed=4")
    write_json(demos.folder / "manifest.json", encode(dataclasses.replace(demos.manifest, stage="demos")))
    with pytest.raises(ConfigError, match="only evaluations merge"):
        merge([small, Run.open(demos.folder)], "refused")


def test_one_run_is_nothing_to_merge(outputs: Path, small: Run, large: Run) -> None:
    for runs in ([small], [small, Run.open(small.folder)], [small, large, small]):
        with pytest.raises(ConfigError, match="give two or more different runs"):
            merge(runs, "refused")
    assert not (outputs / "refused").exists()


def reseeded(plan: Plan) -> Plan:
    return dataclasses.replace(
        plan,
        files={name: tuple(dataclasses.replace(p, seed=p.seed + 1) for p in ps) for name, ps in plan.files.items()},
    )
