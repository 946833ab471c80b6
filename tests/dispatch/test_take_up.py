"""What a later command may change of a run that is not finished, and the names that lead to runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from flows import read

from tau2_exp.compose.composition import chain_settings, compose_config
from tau2_exp.config import ConfigError
from tau2_exp.dispatch import dry_run, launch, resumed
from tau2_exp.dispatch.freeze import freeze
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.step import Step
from tau2_exp.files import whole_folder
from tau2_exp.jsonl import write_json
from tau2_exp.runs import ancestors
from tau2_exp.runs.outputs import index_runs
from tau2_exp.runs.run import Run, RunStatus
from tests.dispatch.test_launch import folders, stand_in  # noqa: F401


def plan(outputs: Path, *overrides: str) -> Step:
    given = [f"outputs={outputs}", *overrides]
    return Planner(outputs).plan(compose_config(given), lambda: chain_settings(given))


def do(outputs: Path, *overrides: str, sweep: bool = False) -> int:
    return launch.launch([f"outputs={outputs}", *overrides], sweep, ["run.py"])


NEUTRAL = ("hardware.threads=3", "engine.batch_tokens=777", "logger.project=mine", "policy.api_key_env=RIGHT_KEY")


def check_neutral(run: Run) -> None:
    config = read(run.folder / "config.json")
    assert (config["hardware"]["threads"], config["engine"]["batch_tokens"]) == (3, 777)
    assert (config["logger"]["project"], config["policy"]["api_key_env"]) == ("mine", "RIGHT_KEY")
    (change,) = run.manifest.changes
    assert change.settings["hardware.threads"] == (1, 3)
    assert set(change.settings) == {text.partition("=")[0] for text in NEUTRAL}


def test_an_unfinished_run_takes_the_settings_of_the_newest_command(tmp_path: Path, capfd) -> None:
    """All of a chain; what was finished before stays as it was."""
    assert do(tmp_path, "stage=rft", "seed=13") == 1, "the stand-in's SFT fails"
    assert do(tmp_path, "stage=rft", "seed=13", *NEUTRAL) == 1
    (demos,), (sft,), (rft,) = (folders(tmp_path, stage) for stage in ("demos", "sft", "rft"))
    for run in (sft, rft):
        check_neutral(run)
    assert read(demos.folder / "config.json")["hardware"]["threads"] == 1 and not demos.manifest.changes


@pytest.mark.parametrize("sweep", [False, True])
def test_a_resumed_run_takes_settings_that_change_no_result(tmp_path: Path, sweep: bool, capfd) -> None:
    seeds = "seed=13,14" if sweep else "seed=13"
    assert do(tmp_path, "stage=rft", seeds, *(["name=study"] if sweep else []), sweep=sweep) == 1
    (folder,) = [tmp_path / "study"] if sweep else [run.folder for run in folders(tmp_path, "rft")]
    assert launch.launch([f"resume={folder}", *NEUTRAL, "stage.save_every=5"], False, []) == 1
    unfinished = [run for stage in ("sft", "rft") for run in folders(tmp_path, stage) if run.config.seed == 13]
    assert len(unfinished) == 2
    for run in unfinished:
        config = read(run.folder / "config.json")
        assert (config["hardware"]["threads"], config["stage"]["save_every"]) == (3, 5)
        assert run.manifest.changes[-1].settings["hardware.threads"] == (1, 3)


@pytest.mark.parametrize("given", ["seed=1", "stage.epochs=7", "model.layers=1", "reward.weights.action=0.9"])
def test_what_changes_a_result_is_refused_on_resume(tmp_path: Path, given: str, capfd) -> None:
    target = plan(tmp_path, "stage=rft", "name=mine")
    freeze(target, [])
    before = (tmp_path / "mine/config.json").read_bytes()
    with pytest.raises(ConfigError, match=f"{given}: resume={tmp_path}/mine uses .*; remove one of the two"):
        launch.launch([f"resume={tmp_path}/mine", given, "hardware.threads=2"], False, [])
    assert (tmp_path / "mine/config.json").read_bytes() == before


@pytest.mark.parametrize("given", ["stage.steps=3", "hardware.thread=2", "experiment=smoke"])
def test_what_no_run_has_is_refused_on_resume(tmp_path: Path, given: str) -> None:
    freeze(plan(tmp_path, "stage=rft", "name=mine"), [])
    with pytest.raises(ConfigError, match=given):
        launch.launch([f"resume={tmp_path}/mine", given], False, [])


def test_a_group_is_given_anew_as_a_whole_and_a_members_setting_in_both_places(tmp_path: Path) -> None:
    target = plan(tmp_path, "stage.stages=[demos,sft]", "name=mine", "user=litellm")
    freeze(target, [])
    resumed.change([target], ["logger=wandb", "stage.sft.save_every=4", "stage.budget_tokens=9"], tmp_path / "mine")
    steps = {step.stage: step.config for step in target.lineage()}
    assert all(config.logger.kind.value == "wandb" for config in steps.values())
    pipeline: Any = steps["pipeline"].stage
    assert steps["sft"].stage.save_every == pipeline.sft.save_every == 4  # type: ignore[attr-defined]
    assert steps["eval"].stage.budget_tokens == pipeline.eval.budget_tokens == 9  # type: ignore[attr-defined]


def test_a_run_at_work_keeps_its_settings(tmp_path: Path) -> None:
    first = freeze(plan(tmp_path, "stage=demos"), [])
    with first.claim():
        freeze(plan(tmp_path, "stage=demos", "hardware.threads=3"), [])
        assert Run.open(first.folder).config.hardware.threads == 1
    again = plan(tmp_path, "stage=demos", "hardware.threads=3")
    freeze(again, [], busy=[again.address])
    assert Run.open(first.folder).config.hardware.threads == 1, "a job in the queue goes by what it was sent with"


def test_what_a_pipeline_consists_of_is_not_given_anew(tmp_path: Path, capfd) -> None:
    assert do(tmp_path, "name=first", "seed=13") == 1, "the stand-in's SFT fails"
    for text in ("stage.stages=[demos,sft]", "stage.evaluate=false", "stage=pipeline", "~reward.multipliers.telecom"):
        with pytest.raises(ConfigError):
            launch.launch([f"resume={tmp_path}/first", text], False, [])
    assert Run.open(tmp_path / "first").config.stage.evaluate


@pytest.mark.parametrize("swept", ["outputs={a},{b}", "name=x,y", "dry_run=false,true", "hardware=cpu,slurm_cpu"])
def test_what_holds_for_a_whole_sweep_has_one_value(tmp_path: Path, swept: str) -> None:
    given = swept.format(a=tmp_path / "a", b=tmp_path / "b")
    with pytest.raises(ConfigError, match="holds for the whole sweep"):
        do(tmp_path, "stage=demos", given, sweep=True)
    assert not list(tmp_path.iterdir())


def test_jobs_that_are_one_run_are_named(tmp_path: Path, capfd) -> None:
    assert do(tmp_path, "stage=demos", "rollout.concurrency=4,8", "name=two", sweep=True) == 0
    assert "jobs 0, 1 are one run: they differ in nothing that changes a result" in capfd.readouterr().out


def test_a_dry_run_of_settings_given_anew_is_the_command_that_sets_them(tmp_path: Path, capfd) -> None:
    assert do(tmp_path, "stage=rft", "seed=13") == 1
    (rft,) = folders(tmp_path, "rft")
    capfd.readouterr()
    words = [f"resume={rft.folder}", "hardware.threads=2", "dry_run=json"]
    assert launch.launch(words, False, []) == 0
    (step,) = json.loads(capfd.readouterr().out)["steps"]
    assert step["argv"][-2:] == words[:2] and Run.open(rft.folder).config.hardware.threads == 1


@pytest.mark.parametrize("resumed", ["a,b", "[a]", "{a: b}"])
def test_one_folder_is_resumed(resumed: str) -> None:
    with pytest.raises(ConfigError, match="takes one folder"):
        launch.launch([f"resume={resumed}"], False, [])


def test_a_parent_is_found_whatever_links_lead_to_the_runs(tmp_path: Path) -> None:
    deep = tmp_path / "scratch" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "outputs").symlink_to(deep)
    parent = freeze(plan(tmp_path / "old", "stage=demos"), [])
    config = plan(tmp_path / "outputs", "stage=sft").config
    child = Run.create(config, "c" * 64, tmp_path / "outputs" / "child", parent)
    for folder in (child.folder, child.folder.resolve()):
        found = Run.open(folder).parent
        assert found is not None and found.folder.resolve() == parent.folder.resolve()


# ------------------------------------------------------------ names


def test_a_given_name_is_there_afterwards_also_where_the_run_has_another(tmp_path: Path, capfd) -> None:
    """The README's next lines: parent=outputs/first-rft, status outputs/first."""
    assert do(tmp_path, "stage=rft") == 0
    (rft,) = folders(tmp_path, "rft")
    assert do(tmp_path, "stage=rft", "name=first") == 0
    assert f"{tmp_path}/first: the same settings as {rft.folder}, which it leads to" in capfd.readouterr().err
    assert Run.open(tmp_path / "first").folder == rft.folder
    assert Run.open(tmp_path / "first-sft").stage == "sft"
    assert plan(tmp_path, "stage=grpo", f"parent={tmp_path}/first").parent.run.folder == rft.folder  # type: ignore[union-attr]
    assert launch.launch([f"resume={tmp_path}/first"], False, []) == 0
    assert do(tmp_path, "stage=rft", "name=first") == 0, "the same command again"
    assert len(index_runs(tmp_path)) == 3
    with pytest.raises(ConfigError, match=r"name=first: .* already exists"):
        do(tmp_path, "stage=rft", "seed=5", "name=first")
    assert not folders(tmp_path, "demos")[1:], "nothing was made"
    (tmp_path / "first").rename(tmp_path / "moved")
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert Run.open(tmp_path.with_name("elsewhere") / "moved").stage == "rft"


def test_two_commands_of_one_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one configuration they are one run; of two, the second is refused in a line, and leaves nothing."""
    first, second = (plan(tmp_path, "stage=demos", "name=mine") for _ in range(2))
    assert freeze(first, []).folder == freeze(second, []).folder == tmp_path / "mine"
    assert not second.fresh and [path.name for path in tmp_path.iterdir()] == ["mine"]
    third = plan(tmp_path, "stage=demos", "name=yours")
    freeze(plan(tmp_path, "stage=demos", "seed=1", "name=yours"), [])
    with pytest.raises(ConfigError, match=r"name=yours: .* already exists"):
        freeze(third, [])


def test_two_sweeps_of_one_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    from tau2_exp.dispatch.local import sweep

    original = sweep.write_sweep

    def late(folder: Path, *arguments: Any) -> Any:
        with whole_folder(folder) as other:
            write_json(other / "sweep.json", {})
        return original(folder, *arguments)

    monkeypatch.setattr(sweep, "write_sweep", late)
    with pytest.raises(FileExistsError) as told:
        do(tmp_path, "stage=demos", "seed=1,2", "name=study", sweep=True)
    assert told.value.filename == str(tmp_path / "study")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_dry_sweep_composes_each_job_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    composed: list[Any] = []
    for module in (launch, dry_run):
        if hasattr(module, "compose_config"):
            original = module.compose_config
            monkeypatch.setattr(
                module, "compose_config", lambda job, original=original: composed.append(job) or original(job)
            )
    assert do(tmp_path, "stage=demos", "seed=1,2,3,4", "dry_run=true", sweep=True) == 0
    assert len(composed) == 4


# ------------------------------------------------------------ a finished run stands alone


@pytest.fixture
def finished(tmp_path: Path) -> dict[str, Run]:
    """By stage, a chain and an evaluation of it."""
    target = plan(tmp_path / "outputs", "stage=eval", "seed=4")
    freeze(target, [])
    for step in target.lineage():
        assert step.run is not None
        step.run.finish({"model": "checkpoints/last"} if step.stage in ("sft", "rft", "grpo") else {"splits": {}})
    return {step.stage: step.run for step in target.lineage() if step.run}


def test_what_is_needed_of_ancestors_is_in_the_folder(finished: dict[str, Run], tmp_path: Path) -> None:
    for stage in ("demos", "sft", "rft"):
        shutil.rmtree(finished[stage].folder)
    run = Run.open(finished["eval"].folder)
    assert run.parent and run.parent.folder == finished["grpo"].folder
    gone = run.parent.parent
    assert gone and (gone.stage, gone.status, gone.config.seed) == ("rft", RunStatus.unknown, 4)
    assert gone.parent and gone.parent.stage == "sft" and gone.parent.parent and gone.parent.parent.parent is None
    again = plan(tmp_path / "outputs", "stage=eval", "seed=9", f"parent={finished['grpo'].folder}")
    assert again.parent and again.parent.finished and again.parent.parent is None
    freeze(again, [])
    assert len(ancestors.read_ancestors(again.run.folder)) == 4, "it is handed on"  # type: ignore[union-attr]


def test_an_ancestor_that_was_renamed_is_found_by_its_address(finished: dict[str, Run]) -> None:
    finished["rft"].folder.rename(finished["rft"].folder.with_name("another name"))
    grpo = Run.open(finished["grpo"].folder)
    assert grpo.parent and grpo.parent.folder.name == "another name" and grpo.parent.status is RunStatus.finished
    assert grpo.parent.parent and grpo.parent.parent.status is RunStatus.finished


def test_an_unfinished_run_whose_parent_is_gone_says_so(tmp_path: Path) -> None:
    target = plan(tmp_path, "stage=sft", "name=mine")
    freeze(target, [])
    shutil.rmtree(tmp_path / "mine-demos")
    with pytest.raises(ConfigError, match=r"mine: .*mine-demos, which it depends on, is gone; put it back"):
        launch.launch([f"resume={tmp_path}/mine"], False, [])
