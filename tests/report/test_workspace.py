"""A sweep's workspace says which runs, grouped by what, and which curves; no server is asked for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import ConfigError, to_data
from tau2_exp.dispatch.local.sweep import write_sweep
from tau2_exp.report.workspace import make_workspace, swept_keys
from tau2_exp.runs.run import Run

pytest.importorskip("wandb_workspaces", reason="the extra wandb is not installed")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Alpha by seed; the RFT run before them was made for the sweep, what stood before that was not."""
    rft = make_run(tmp_path, "rft", "stage=rft", "logger.group=alphas", parent=make_run(tmp_path, "sft", "stage=sft"))
    log(rft, {"loss": 0.5, "note": None})
    jobs = []
    for alpha in (0.1, 0.25):
        for seed in (0, 1):
            overrides = ["stage=grpo", f"reward.alpha={alpha}", f"seed={seed}", "logger.group=alphas"]
            run = make_run(tmp_path, f"grpo-{alpha}-{seed}", *overrides, parent=rft)
            log(run, {"outcome": alpha, "shaped": 2 * alpha})
            jobs.append((overrides, run))
    write_sweep(tmp_path / "alphas", jobs, [])
    return tmp_path / "alphas"


def make_run(outputs: Path, name: str, *overrides: str, parent: Run | None = None) -> Run:
    return Run.create(compose_config(["logger=wandb", *overrides]), name, outputs / name, parent)


def log(run: Run, metrics: dict[str, Any]) -> None:
    """As `Run.log` does, without the logger."""
    (run.folder / "metrics.jsonl").write_text(json.dumps({"step": 1, **metrics}) + "\n")


def spec(folder: Path) -> dict[str, Any]:
    view = make_workspace(folder, "team")._to_model()
    assert (view.entity, view.project, view.display_name) == ("team", "tau2_exp", "sweep alphas")
    return json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))["section"]


def test_it_shows_the_sweeps_runs_grouped_by_stage_and_by_what_was_swept(sweep: Path) -> None:
    (runs,) = spec(sweep)["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"]["name"], only["op"], only["value"]) == ("group", "=", "alphas")
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("run", "jobType"),
        ("config", "reward.value.alpha"),
    ]
    assert runs["runFeed"]["columnOrder"] == ["run:displayName", "config:reward.alpha", "config:seed"]


def test_what_changes_no_result_was_not_swept() -> None:
    jobs = [{"seed": n, "rollout": {"concurrency": n}, "reward": {"alpha": n, "weights": {"db": n}}} for n in (1, 2)]
    assert swept_keys(jobs) == ["reward.alpha", "reward.weights.db"]


def test_its_sections_are_the_stages_and_its_curves_what_they_logged(sweep: Path) -> None:
    sections = spec(sweep)["panelBankConfig"]["sections"]
    shown = {section["name"]: [panel["config"]["metrics"] for panel in section["panels"]] for section in sections}
    assert shown == {"rft": [["loss"]], "grpo": [["outcome"], ["shaped"]]}
    assert [section["isOpen"] for section in sections] == [False, True]
    curve = sections[1]["panels"][0]
    assert curve["viewType"] == "Run History Line Plot"
    assert (curve["config"]["groupAgg"], curve["config"]["groupArea"]) == ("mean", "minmax")


def test_what_it_lacks_is_one_line(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logger\.entity=null: .* --entity NAME"):
        make_workspace(sweep)
    with pytest.raises(ConfigError, match="no sweep"):
        make_workspace(tmp_path, "team")
    run = make_run(tmp_path, "silent", "stage=grpo", "logger.group=quiet")
    write_sweep(tmp_path / "quiet", [(["stage=grpo"], run)], [])
    with pytest.raises(ConfigError, match="its runs have logged nothing yet"):
        make_workspace(tmp_path / "quiet", "team")
    (run.folder / "config.json").write_text(json.dumps(to_data(compose_config(["stage=grpo"]))))
    with pytest.raises(ConfigError, match="logger=none, so W&B has none of its runs"):
        make_workspace(tmp_path / "quiet", "team")
