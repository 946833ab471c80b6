"""Which runs a command stands for, and which of them are there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from tau2_exp.compose.composition import chain_settings, compose_config
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.freeze import freeze
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.show import notes, plan_lines
from tau2_exp.dispatch.step import Step
from tau2_exp.dispatch.tasks import make_tasks
from tau2_exp.runs.run import Run


def plan(outputs: Path, *overrides: str) -> Step:
    given = [f"outputs={outputs}", *overrides]
    return Planner(outputs).plan(compose_config(given), lambda: chain_settings(given))


def stages(step: Step) -> list[str]:
    return [part.stage for part in step.lineage()]


def finish(step: Step) -> Run:
    run = freeze(step, [])
    for part in step.lineage():
        if part.run and not part.finished:
            part.run.finish({})
    return run


@pytest.mark.parametrize(
    ("overrides", "chain"),
    [
        (["stage=demos"], ["demos"]),
        (["stage=sft"], ["demos", "sft"]),
        (["stage=grpo"], ["demos", "sft", "rft", "grpo"]),
        (["stage=eval"], ["demos", "sft", "rft", "grpo", "eval"]),
        (["stage=eval", "policy=oracle"], ["eval"]),
        (["stage=eval", "model.path=owner/model"], ["eval"]),
        (["stage=grpo", "model.path=owner/model", "parent=model"], ["grpo"]),
        (["stage=sft", "stage.data=DATA"], ["sft"]),
        ([], ["demos", "sft", "eval", "rft", "eval", "grpo", "eval", "pipeline"]),
        (["stage.evaluate=false", "stage.stages=[demos,sft]"], ["demos", "sft", "pipeline"]),
    ],
    ids=lambda value: " ".join(value) or "default",
)
def test_a_stage_without_a_parent_makes_the_chain_before_it(
    tmp_path: Path, overrides: list[str], chain: list[str]
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": [{"role": "assistant", "content": "Hello."}]}\n')
    overrides = [text.replace("DATA", f'"{data}"') for text in overrides]
    assert stages(plan(tmp_path, *overrides)) == chain


def test_every_step_of_a_chain_is_frozen_with_its_own_settings(tmp_path: Path) -> None:
    run = freeze(plan(tmp_path, "stage=grpo", "stage.steps=7", "seed=3"), ["argv"])
    assert run.parent and run.parent.parent
    assert run.config.stage == compose_config(["stage=grpo", "stage.steps=7"]).stage
    assert run.parent.parent.config.stage == compose_config(["stage=sft"]).stage
    assert {run.config.seed, run.parent.config.seed} == {3}


def test_what_is_finished_is_taken_and_what_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    sft = finish(plan(tmp_path, "stage=sft"))
    first = freeze(plan(tmp_path, "stage=grpo", "reward.alpha=0.5"), [])
    again = plan(tmp_path, "stage=grpo", "reward.alpha=0.5")
    steps = {step.stage: step for step in again.lineage()}
    assert steps["sft"].run and steps["sft"].run.folder == sft.folder and steps["sft"].finished
    assert again.run and again.run.folder == first.folder and not again.finished
    other = {step.stage: step for step in plan(tmp_path, "stage=grpo", "reward.alpha=0.1").lineage()}
    assert other["rft"].run is not None and other["grpo"].run is None


def test_a_pipeline_and_a_single_stage_share_their_runs(tmp_path: Path) -> None:
    pipeline = finish(plan(tmp_path))
    assert [member.stage for member in pipeline.members] == ["demos", "sft", "eval", "rft", "eval", "grpo", "eval"]
    assert plan(tmp_path, "stage=grpo").finished
    assert plan(tmp_path, "stage=eval").finished
    given = plan(tmp_path, "stage=eval", f"parent={pipeline.folder}", "seed=5")
    assert given.parent and given.parent.stage == "grpo"


def test_a_name_is_given_to_all_folders_of_a_chain(tmp_path: Path) -> None:
    run = freeze(plan(tmp_path, "stage=sft", "name=mine"), [])
    assert run.folder == tmp_path / "mine"
    assert run.parent and run.parent.folder == tmp_path / "mine-demos"


def test_the_runs_of_a_chain_are_one_group_unless_told_otherwise(tmp_path: Path) -> None:
    run = freeze(plan(tmp_path, "stage=sft"), [])
    assert run.parent and run.parent.config.logger.group == run.config.logger.group == run.folder.name
    other = freeze(plan(tmp_path, "stage=sft", "seed=1", "logger.group=mine"), [])
    assert other.parent and other.parent.config.logger.group == other.config.logger.group == "mine"


def test_a_parent_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            plan(tmp_path, *overrides)
        return str(error.value)

    demos = freeze(plan(tmp_path, "stage=demos"), []).folder
    assert "no run folder" in refused("stage=sft", "parent=nowhere")
    assert f"resume={demos}" in refused("stage=sft", f"parent={demos}")
    Run.open(demos).finish({})
    assert "depends on sft or rft or grpo" in refused("stage=grpo", f"parent={demos}")
    assert "depends on no other run" in refused("stage=demos", f"parent={demos}")
    sft = finish(plan(tmp_path, "stage=sft")).folder
    assert "use model=tiny" in refused("stage=rft", "model=qwen3_0_6b", f"parent={sft}")
    assert "use model.layers=2" in refused("stage=rft", "model.layers=3", f"parent={sft}")
    assert "model.path=FOLDER" in refused("stage=rft", "parent=model")
    assert refused("model.lora=8").startswith("model.lora=8: an adapter needs weights to stand beside")
    assert "model.path=FOLDER" in refused("stage=sft", f"parent={demos}", "model.lora=8")


def test_what_a_sweep_shares_is_one_task_before_the_others(tmp_path: Path) -> None:
    planner = Planner(tmp_path)
    targets = []
    for alpha in (0.0, 0.5):
        given = [f"outputs={tmp_path}", "stage=grpo", f"reward.alpha={alpha}"]
        targets.append(planner.plan(compose_config(given), lambda given=given: chain_settings(given)))
    for target in targets:
        freeze(target, [])
    shared, *own = make_tasks(targets)
    assert [run.stage for run in shared.runs] == ["demos", "sft", "rft"]
    assert [[run.stage for run in task.runs] for task in own] == [["grpo"], ["grpo"]]
    assert all(task.needs == [shared] for task in own)
    finish(targets[0])
    (left,) = make_tasks(targets)
    assert left.targets == (1,) and not left.needs


def test_a_parent_of_another_domain_is_noted(tmp_path: Path) -> None:
    house = ["domain=custom", "domain.provider=brought:House"]
    sft = finish(plan(tmp_path, "stage=sft", "name=h", *house))
    (note,) = notes(plan(tmp_path, "stage=eval", f"parent={sft.folder}"))
    assert note == (
        f"note: {sft.folder} was trained on house; this command uses telecom; "
        "add domain=custom domain.provider=brought:House to stay with it"
    )
    assert plan_lines(plan(tmp_path, "stage.stages=[grpo]", f"parent={sft.folder}"))[0] == note
    assert notes(plan(tmp_path, "stage=eval", f"parent={sft.folder}", *house)) == []
    telecom = finish(plan(tmp_path, "stage=sft"))
    (other,) = notes(plan(tmp_path, "stage=eval", f"parent={telecom.folder}", *house))
    assert other.endswith("this command uses house; add domain=telecom to stay with it")
