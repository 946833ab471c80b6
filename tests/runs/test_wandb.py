"""W&B mirrors a run's folder: without a key or a network it records offline, and asks and stalls never."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from glob import glob
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dialogues import make_trajectory
from servers import Answer, serve

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import to_data
from tau2_exp.runs import wandb as logger
from tau2_exp.runs.run import Run
from tau2_exp.runs.wandb import _say_offline, answers
from tau2_exp.types import Message, Role, ToolCall, Turn

wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
SECRET = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    _say_offline.cache_clear()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", "stage=sft")


def make_run(folder: Path, *overrides: str, parent: Run | None = None) -> Run:
    config = compose_config([*overrides, "logger=wandb", "logger.group=the-sweep"])
    return Run.create(config, folder.name.ljust(64, "a"), folder, parent)


def finish(run: Run) -> None:
    run.log({"reward": 0.5}, 0)
    run.log({"reward": 0.7}, 1)
    run.finish({"pass": 1.0})


def records(run: Run, kind: str) -> list[dict[str, Any]]:
    """What was recorded offline, in order, as W&B's own reader (`wandb leet inspect --json`) tells it."""
    found = []
    for record in sorted((run.folder / "wandb").glob("offline-run-*/run-*.wandb")):
        command = [
            wandb.util.get_core_path(),
            "leet",
            "inspect",
            "--no-observability",
            "--json",
            "--run-file",
            str(record),
        ]
        done = subprocess.run([*command, str(record.parent)], capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        found += [entry[kind] for entry in map(json.loads, lines) if entry["type"] == kind]
    return found


def history(run: Run) -> list[dict[str, Any]]:
    items = [record["item"] for record in records(run, "history")]
    return [{k: v for k, v in item.items() if k == "_step" or not k.startswith(("_", "episodes"))} for item in items]


def artifacts(run: Run) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in records(run, "artifact") if record["type"] in ("model", "dataset")}


def test_without_a_key_it_records_offline_and_says_so_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wandb:")]
    assert len(told) == 1 and "WANDB_API_KEY" in told[0] and "wandb sync" in told[0]
    folders = glob(told[0].rpartition("wandb sync ")[2])
    assert any(Path(one).glob("offline-run-*/*.wandb") for one in folders), "the command names what can be synced"
    assert [line["reward"] for line in run.metrics()] == [0.5, 0.7]


def test_with_a_key_and_no_network_it_does_not_stall_and_keeps_the_key(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    run.log({"reward": 0.5}, 0)
    run.close()
    told = capsys.readouterr().out
    assert "127.0.0.1 does not answer" in told
    assert SECRET not in told
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)


def test_a_stored_login_is_a_key(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    netrc.chmod(0o600)
    run.log({"reward": 0.5}, 0)
    run.close()
    told = capsys.readouterr().out
    assert "127.0.0.1 does not answer" in told and "WANDB_API_KEY" not in told and SECRET not in told


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert answers("https://nowhere.invalid")
    assert not answers("https://nowhere.invalid")


@pytest.mark.parametrize("part", ["Settings", "setup", "init", "the import"])
def test_what_breaks_in_the_mirror_does_not_break_the_run(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no\nluck")

    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    if part == "the import":
        monkeypatch.delitem(sys.modules, "wandb")
        monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=broken)])
    else:
        monkeypatch.setattr(wandb, part, broken)
    finish(run)
    assert run.results == {"pass": 1.0}
    assert capsys.readouterr().out.count("wandb: no; continuing without it") == 1


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_leaves_the_run_recorded_offline(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(logger, "INIT_SECONDS", 3.0)
    with serve(Answer({}, status)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", SECRET)
        finish(run)
    told = capsys.readouterr().out
    assert "recording offline" in told and "continuing without it" not in told and SECRET not in told
    assert [line["reward"] for line in history(run)] == [0.5, 0.7]


def test_an_artifact_that_fails_does_not_end_the_mirror(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the home is read-only")

    run = make_run(tmp_path / "run", "stage=sft")
    (run.folder / "checkpoints").mkdir()
    monkeypatch.setattr(logger, "_as_artifact", broken)
    run.log({"reward": 0.5}, 0)
    run.finish({"model": "checkpoints"})
    assert "wandb: the home is read-only; the artifact sft-" in capsys.readouterr().out
    summary = {k: v for record in records(run, "summary") for k, v in record["update"].items()}
    assert summary["model"] == "checkpoints" and len(history(run)) == 1


def test_what_was_logged_is_read_back_number_for_number(tmp_path: Path) -> None:
    parent = make_run(tmp_path / "parent", "stage=sft")
    weights = parent.folder / "checkpoints" / "last" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    weights.with_name("training.pt").write_bytes(b"moments")
    parent.log({"loss": 1 / 3, "epoch": 0}, 1)
    parent.log({"loss": float("nan"), "epoch": 1}, 2)
    parent.finish({"model": "checkpoints/last", "steps": 2, "outcomes": {"a task": [1.0]}})
    child = make_run(tmp_path / "child", "stage=grpo", "logger.episodes=3", "reward.alpha=0.1", parent=parent)
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("pay", {"sum": 1}),))
    with child.write_trajectories("rollouts") as lines:
        for place in range(7):
            lines.write(make_trajectory(Turn("pay", (call,)), task=f"t{place}", reward=float(place % 2)))
    child.log({"outcome": 0.25}, 1)
    child.finish({"model": "checkpoints/last", "steps": 1})

    assert history(parent) == [{"_step": 1, "loss": 1 / 3, "epoch": 0}, {"_step": 2, "loss": None, "epoch": 1}]
    for run, stage in ((parent, "sft"), (child, "grpo")):
        (said,) = records(run, "run")
        assert (said["run_group"], said["job_type"], said["display_name"]) == ("the-sweep", stage, run.folder.name)
        assert {k: v for k, v in said["config"]["update"].items() if k != "_wandb"} == to_data(run.config)
    summary = {k: v for record in records(parent, "summary") for k, v in record["update"].items()}
    assert summary["steps"] == 2 and summary["model"] == "checkpoints/last" and "outcomes" not in summary

    (made,), (used,) = artifacts(parent).values(), artifacts(child).values()
    assert made["name"] == used["name"] == f"sft-{parent.manifest.address[:16]}"
    assert made["digest"] == used["digest"] and used["use_after_commit"] and "use_after_commit" not in made
    (entry,) = made["manifest"]["contents"]
    assert (entry["path"], entry["ref"]) == ("model.safetensors", weights.as_uri())

    (table,) = child.folder.glob("wandb/offline-run-*/files/media/table/episodes/rollouts_*.table.json")
    data = json.loads(table.read_text())
    assert [row[0] for row in data["data"]] == ["retail/t0", "retail/t2", "retail/t4"]
    assert data["columns"][2] == "outcome" and [row[2] for row in data["data"]] == [0.0, 0.0, 0.0]
    assert data["data"][0][-1].endswith('user: My bill is wrong.\nassistant:  pay({"sum": 1})')


def test_a_resumed_run_goes_on_with_its_own_record(run: Run) -> None:
    for step in range(4):
        run.log({"reward": step / 4}, step)
    run.close(failed=True)
    resumed = Run.open(run.folder)
    resumed.rewind(1)  # its checkpoint is older than what it had told
    for step in range(2, 6):
        resumed.log({"reward": step / 4}, step)
    resumed.close()
    assert [record["run_id"] for record in records(run, "run")] == [records(run, "run")[0]["run_id"]] * 2
    assert history(run) == [{"_step": step, "reward": step / 4} for step in range(6)], "each step once"
    (run.folder / "wandb").rename(run.folder / "lost")  # as a kill loses what was not written yet
    again = Run.open(run.folder)
    again.log({"reward": 1.5}, 6)
    again.close()
    assert history(run) == [{"_step": step, "reward": step / 4} for step in range(7)]
