"""A run's folder: whole or not there, and no line of it lost or doubled by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import ConfigError
from tau2_exp.jsonl import JsonlWriter, read_jsonl
from tau2_exp.runs.outputs import index_runs
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.types import GREETING, StopReason, TokenSpan, Trajectory, Turn

CONFIG = compose_config(["stage=sft"])


def make(outputs: Path, name: str = "run", address: str = "a" * 64, parent: Run | None = None) -> Run:
    return Run.create(CONFIG, address, outputs / name, parent, argv=["run.py", "stage=sft"])


def trajectory(sample: int) -> Trajectory:
    span = TokenSpan((1, 2), (3,), (-0.5,))
    turn = Turn(text="hm\n", messages=(), error="unparsable", tokens=span)
    return Trajectory("t", "telecom", sample, 7, (GREETING,), (turn,), StopReason.UNPARSABLE, None)


def test_a_failure_is_told_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "t0psecret-value")
    run = make(tmp_path)
    run.fail("refused t0psecret-value", "Traceback: http://me:pa55@host/?code=t0psecret")
    assert run.failure == "refused ***"
    assert "pa55" not in (text := (run.folder / "failure.json").read_text()) and "t0psecret" not in text


def test_what_is_frozen_is_read_back(tmp_path: Path) -> None:
    run = Run.open(make(tmp_path).folder)
    assert run.config == CONFIG
    assert run.manifest.argv == ("run.py", "stage=sft")
    assert run.manifest.revision == "tau2-bench@337326e"
    assert "seed" in json.loads((run.folder / "config.json").read_text()), "defaults are there for people to read"


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ConfigError, match=r"name=run: .* already exists"):
        make(tmp_path)
    with pytest.raises(ConfigError, match="no run folder"):
        Run.open(tmp_path / "nothing")


def test_what_is_no_run_is_told_with_what_to_give(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ConfigError, match=f"holds runs; give one of its runs: python -m tau2_exp status {tmp_path} "):
        Run.open(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ConfigError, match="is a sweep; give one of its runs"):
        Run.open(tmp_path)


def test_parents_are_found_after_the_outputs_have_moved(tmp_path: Path) -> None:
    parent = make(tmp_path / "here", "parent")
    make(tmp_path / "here", "child", "b" * 64, parent)
    (tmp_path / "here").rename(tmp_path / "there")
    child = Run.open(tmp_path / "there" / "child")
    assert child.parent is not None
    assert child.parent.folder == tmp_path / "there" / "parent"


def test_a_status_follows_the_runs_life(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.status is RunStatus.unfinished
    with run.claim():
        assert Run.open(run.folder).status is RunStatus.running
    run.fail("ValueError: no", "traceback")
    assert (run.status, run.failure) == (RunStatus.failed, "ValueError: no")
    run.finish({"pass": 1.0}, table="a table")
    assert (run.status, run.failure, run.results, run.table) == (RunStatus.finished, "", {"pass": 1.0}, "a table\n")


def test_what_several_processes_of_a_run_record_adds_up(tmp_path: Path) -> None:
    worker = make(tmp_path)
    worker.record(hardware={"device": "cuda"})
    Run.open(worker.folder).record(provider="sierra")  # a part of the plan, in a process of its own
    worker.record(seconds=2.0)
    manifest = Run.open(worker.folder).manifest
    assert (manifest.provider, manifest.hardware, manifest.seconds) == ("sierra", {"device": "cuda"}, 2.0)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    run = make(tmp_path)
    code = (
        "from tau2_exp.runs.run import Run\nimport time\n"
        f"with Run.open({str(run.folder)!r}).claim():\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert run.status is RunStatus.running
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert run.status is RunStatus.unfinished


def test_a_resumed_run_tells_no_step_twice(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in range(5):
        run.log({"reward": step / 10, "broken": float("nan")}, step)
    resumed = Run.open(run.folder)
    resumed.rewind(2)
    resumed.log({"reward": 9.0}, 3)
    assert [line["step"] for line in resumed.metrics()] == [0, 1, 2, 3]
    assert resumed.metrics()[0] == {"step": 0, "reward": 0.0, "broken": None}


def test_trajectories_are_kept_as_far_as_a_checkpoint_vouches_for(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.write_trajectories("train") as lines:
        for sample in range(4):
            lines.write(trajectory(sample))
    with run.write_trajectories("train", keep=2) as lines:
        lines.write(trajectory(9))
    assert list(run.trajectories("train")) == [trajectory(0), trajectory(1), trajectory(9)]
    assert list(run.trajectories("none")) == []


@given(cut=st.integers(0, 200), texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=8), max_size=5))
def test_a_file_torn_anywhere_reads_as_its_whole_lines_and_goes_on(
    cut: int, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "lines.jsonl"
    with JsonlWriter(path) as lines:
        for text in texts:
            lines.write({"text": text})
    torn = path.read_bytes()[:cut]
    path.write_bytes(torn)
    whole = [{"text": text} for text in texts][: torn.count(b"\n")]
    assert list(read_jsonl(path)) == whole
    with JsonlWriter(path) as lines:
        lines.write("after")
    assert list(read_jsonl(path)) == [*whole, "after"]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ValueError, match=r"lines\.jsonl:2: not a JSON line"):
        list(read_jsonl(path))


def test_the_index_prefers_what_is_finished(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path, name, "a" * 64) for name in ("1", "2", "3"))
    assert index_runs(tmp_path)["a" * 64].folder == third.folder
    second.finish({})
    assert index_runs(tmp_path)["a" * 64].folder == second.folder
    assert first.status is RunStatus.unfinished


def test_a_folder_that_cannot_be_read_is_named_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = make(tmp_path, "good", "a" * 64), make(tmp_path, "bad", "b" * 64)
    (bad.folder / "manifest.json").write_text('{"colour": "blue"}')
    assert [run.folder for run in index_runs(tmp_path).values()] == [good.folder]
    assert f"skipped: {bad.folder}/manifest.json: " in capsys.readouterr().err
