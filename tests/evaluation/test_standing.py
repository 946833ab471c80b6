"""An episode that was run more than once counts once, and as the evaluation itself counted it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluations import evaluated

from tau2_exp.evaluation.exporting import export_run
from tau2_exp.evaluation.merge import merge
from tau2_exp.evaluation.standing import standing
from tau2_exp.report.collect import collect
from tau2_exp.report.failures import failures
from tau2_exp.runs.run import Run
from tau2_exp.types import Fault, FaultSource, StopReason, Trajectory


def cramped(one: Trajectory) -> Trajectory:
    """The episode as it ended where the agent's context had no room for its first turn."""
    assert one.verdict is not None
    return replace(one, turns=(), stop=StopReason.CONTEXT_FULL, verdict=replace(one.verdict, reward=0.0))


def faulted(one: Trajectory) -> Trajectory:
    return replace(one, verdict=None, stop=StopReason.FAULT, fault=Fault(FaultSource.USER, "timeout"))


def rewrite(run: Run, name: str, trajectories: list[Trajectory]) -> None:
    with run.write_trajectories(name, keep=0) as lines:
        for trajectory in trajectories:
            lines.write(trajectory)


def test_what_is_run_again_gives_way_and_what_stands_does_not(tmp_path: Path) -> None:
    one = next(evaluated(tmp_path / "run", "domain.limit=1").trajectories("test"))
    worse = replace(one, verdict=replace(one.verdict, reward=0.0) if one.verdict else None)
    for first, second, stands in (
        (faulted(one), one, one),
        (cramped(one), one, one),
        (one, faulted(one), one),
        (worse, one, worse),
        (faulted(one), cramped(one), cramped(one)),
    ):
        assert standing([first, second]) == {(one.key, one.sample): stands}


def test_every_reader_of_an_evaluation_counts_what_its_results_do(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", "stage.greedy=false")
    played = list(run.trajectories("test"))
    rewrite(run, "test", [cramped(played[0]), *(faulted(one) for one in played[1:]), *played])
    (file,) = export_run(run).values()
    assert [s["reward_info"]["reward"] for s in file.results["simulations"]] == [one.outcome for one in played]
    assert file.faulted == 0 and "not played" not in file.told
    other = evaluated(tmp_path / "other", "stage.greedy=false", "domain.limit=1")
    assert (
        merge([run, other], "whole").results["splits"]["test"]["outcomes"] == run.results["splits"]["test"]["outcomes"]
    )
    trial = collect([run.folder]).trials[0]
    found = failures(trial, trial.subjects[0])
    assert (found.episodes, found.unsolved) == (len(played), sum(one.outcome < 1 for one in played))
