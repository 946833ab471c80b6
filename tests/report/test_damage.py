"""A damaged file, or a folder that is gone, is named in a line, and hides nothing else."""

from __future__ import annotations

import argparse
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from studies import Study, make_study

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.following import status
from tau2_exp.dispatch.slurm.stage_job import StageJob
from tau2_exp.report.collect import collect
from tau2_exp.report.findings import find
from tau2_exp.report.terminal import report_text
from tau2_exp.runs.run import Run
from tau2_exp.serve.service import find_model


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """SFT and GRPO of two seeds, each evaluated."""
    return make_study(tmp_path / "outputs", ({},), lambda arm, seed: 0.5, seeds=2)


def runs(study: Study, stage: str) -> list[Run]:
    return [run for path in sorted(study.outputs.iterdir()) if (run := Run.open(path)).stage == stage]


def said(folders: Sequence[Path], capsys: pytest.CaptureFixture[str]) -> str:
    """What `status` tells; it ends well."""
    parser = argparse.ArgumentParser()
    status.register(parser.add_subparsers())
    given = parser.parse_args(["status", *map(str, folders)])
    assert given.run(given) == 0
    return capsys.readouterr().out


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.exists() else b'{"label": "tr')


@pytest.mark.parametrize("name", ["manifest.json", "results.json", "config.json", "progress.json", "metrics.jsonl"])
def test_a_torn_file_hides_no_other_run(study: Study, capsys: pytest.CaptureFixture[str], name: str) -> None:
    victim = runs(study, "grpo")[0].folder
    whole = said([study.outputs], capsys).count("finished")
    if name == "metrics.jsonl":
        (victim / name).write_text('{"step": 1\n{"step": 2}\n')
    else:
        tear(victim / name)
    told = said([study.outputs], capsys)
    lost = name in ("manifest.json", "results.json", "config.json")
    assert told.count("finished") == whole - lost
    if lost:
        assert f"{victim / name}: cannot be read" in told and "unknown" in told
    collection = collect([study.outputs])
    assert len(collection.trials[0].subjects) >= 1 and report_text(find(collection))
    if name != "progress.json":
        assert [problem for problem in collection.problems if f"{victim / name}" in problem]


def test_a_run_that_is_not_finished_says_that_its_progress_cannot_be_read(study: Study, capsys) -> None:
    run = runs(study, "grpo")[0]
    (run.folder / "results.json").unlink()
    tear(run.folder / "progress.json")
    told = said([run.folder], capsys)
    assert "unfinished" in told, "a long path is folded within its column"
    assert f"{run.folder / 'progress.json'}:cannotberead" in "".join(told.split())


def test_a_torn_result_is_no_model_to_serve(study: Study) -> None:
    run = runs(study, "grpo")[0]
    tear(run.folder / "results.json")
    with pytest.raises(ConfigError, match=rf"results\.json: cannot be read .*; remove it, and resume={run.folder}"):
        find_model(str(run.folder))


def test_finished_runs_are_read_without_the_folders_of_those_before(study: Study, capsys) -> None:
    """The tables are the same to the letter, the arms' comparison with what they began with too."""
    before = report_text(find(collect([study.outputs])))
    for run in runs(study, "sft"):
        shutil.rmtree(run.folder)
    collection = collect([study.outputs])
    told = report_text(find(collection))
    assert "grpo" in told and told.count("seed") == before.count("seed") if "seed" in before else True
    assert sum("is gone; it is told from what later runs hold of it" in line for line in collection.problems) == 2
    (trial,) = collection.trials
    (subject,) = [subject for subject in trial.subjects if subject.stage == "grpo"]
    assert subject.parent and subject.parent[0] == "sft" and len(subject.seeds) == 2
    grpo = runs(study, "grpo")[0].folder
    shown = said([grpo], capsys)
    assert "unknown" in shown and "its folder is gone" in shown and "finished" in shown


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2, signal.SIGKILL])
def test_a_worker_that_was_told_to_end_before_it_could_hear_did_not_fail(
    study: Study, in_a_job, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run = runs(study, "grpo")[0]
    (run.folder / "results.json").unlink()
    monkeypatch.setattr("tau2_exp.dispatch.slurm.stage_job.ask", lambda *_: argparse.Namespace(stdout="CANCELLED"))
    monkeypatch.setattr("tau2_exp.dispatch.slurm.stage_job.sys.executable", "/nowhere")
    job = StageJob(str(run.folder), ("sh", "-c", f"kill -{int(number)} $$"), 1.0, ())
    with pytest.raises(SystemExit):
        job()
    if number is signal.SIGKILL:
        assert run.failure == "the worker was killed by SIGKILL (most often: out of memory)"
    else:
        assert run.failure == ""
