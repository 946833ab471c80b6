"""An evaluation counts what it lost, and puts no number where samples are missing."""

from __future__ import annotations

import pytest

from tau2_exp import scenery
from tau2_exp.stages import run_stage, studio
from tau2_exp.types import FaultError, FaultSource, Task, Usage, World
from tau2_exp.users import make_user

ORACLE = ("stage=eval", "policy=oracle", "stage.samples_per_prompt=2", "rollout.fault_retries=1")


def lose(monkeypatch: pytest.MonkeyPatch, lost) -> None:
    """Let the user simulator of some tasks be out of reach."""

    class Unreachable:
        name, usage = "scripted", Usage()

        async def reply(self, heard):
            raise FaultError(FaultSource.USER, "the server is down")

    def user(task: Task, world: World, *rest):
        return Unreachable() if lost(task) else make_user(task, world, *rest)

    monkeypatch.setattr(scenery, "make_user", user)


def test_a_fault_is_a_missing_sample_and_not_a_failed_one(make_run, monkeypatch) -> None:
    run = make_run(*ORACLE, "domain.eval_splits=[train,small]")
    train = {task.id for task in studio.Studio(run).tasks("train")}
    unlucky = sorted(train)[0]
    lose(monkeypatch, lambda task: task.id == unlucky)
    run_stage(run)
    splits = run.results["splits"]
    hit, spared = splits["train"], splits["small"]
    assert hit["outcomes"][f"telecom/{unlucky}"] == [] and hit["faults"] == {"user": 3}
    assert hit["measures"]["pass@1"] == {"value": None, "missing": 2, "tasks": 2}
    assert hit["measures"]["greedy pass@1"] == {"value": None, "missing": 1, "tasks": 2}
    assert spared["faults"] == {} and all(m["value"] == 1.0 for m in spared["measures"].values())
    assert hit["nothing"]["value"] == 0.0
    table = run.table.splitlines()
    (row,) = (line for line in table if "eval" not in line and " train " in line and "(nothing)" not in line)
    assert row.count("2 samples missing") == 3 and "[" not in row
    assert "episodes lost to faults: 3 of the user" in run.table
    lost = [t for t in run.read_trajectories("train") if not t.scored]
    assert [t.attempts for t in lost] == [2, 2]


def test_an_evaluation_of_which_nothing_is_left_fails(make_run, monkeypatch) -> None:
    run = make_run(*ORACLE)
    lose(monkeypatch, lambda task: True)
    with pytest.raises(RuntimeError, match="all 2 episodes ended in a fault; the first: the server is down"):
        run_stage(run)
    assert not (run.folder / "results.json").exists()
