"""W&B mirrors a run's folder: without a key or a network it records offline, and asks and stalls never."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tau2_exp.compose import compose_config
from tau2_exp.rundir import Run

wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    return Run.create(compose_config(["stage=sft", "logger=wandb"]), "a" * 64, tmp_path / "run")


def finish(run: Run) -> None:
    run.log({"reward": 0.5}, 0)
    run.log({"reward": 0.7}, 1)
    run.finish({"pass": 1.0})


def test_without_a_key_it_records_offline_and_says_so_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wandb:")]
    assert len(told) == 1 and "WANDB_API_KEY" in told[0] and "wandb sync" in told[0]
    folder = Path(told[0].rpartition("wandb sync ")[2])
    assert list(folder.glob("*.wandb")), "the command names a folder that can be synced"
    assert [line["reward"] for line in run.metrics()] == [0.5, 0.7]


def test_with_a_key_and_no_network_it_does_not_stall(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    began = time.monotonic()
    run.log({"reward": 0.5}, 0)
    assert time.monotonic() - began < 30
    run.close()
    told = capsys.readouterr().out
    assert "127.0.0.1 does not answer" in told
    assert "0" * 40 not in told


def test_what_breaks_in_the_mirror_does_not_break_the_run(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(wandb, "init", broken)
    finish(run)
    assert run.results == {"pass": 1.0}
    assert "wandb: no; going on without it" in capsys.readouterr().out
