"""dry_run: what would run, as a script that a shell takes and as data, true to what is then made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.dry_run import freeze_only
from tau2_exp.dispatch.launch import launch
from tau2_exp.system.quoting import override

PIPELINE = ["experiment=reference_pipeline", "name=ref"]


def told(capsys: pytest.CaptureFixture[str], overrides: list[str], sweep: bool = False) -> str:
    assert launch(overrides, sweep, []) == 0
    return capsys.readouterr().out


def steps(capsys: pytest.CaptureFixture[str], overrides: list[str], sweep: bool = False) -> list[dict[str, Any]]:
    (only,) = json.loads(told(capsys, [*overrides, "dry_run=json"], sweep)).values()
    return only


@pytest.mark.parametrize("hardware", ["gpu_8", "slurm_2x8gpu"])
def test_a_shell_takes_the_script(hardware: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = told(capsys, [*PIPELINE, f"outputs={tmp_path}", f"hardware={hardware}", "dry_run=true"])
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert script.count("&\nray=$!") == script.count('end "$ray"') == 3
    assert "python -m tau2_exp freeze experiment=reference_pipeline" in script
    assert ("ray join FOLDER" in script) == (hardware == "slurm_2x8gpu")


def test_a_gpu_plan_says_what_memory_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["stage=pipeline", "model=qwen3_0_6b", "hardware=gpu_1", "model.context=8192", f"outputs={tmp_path}"]
    lines = [line for line in told(capsys, [*overrides, "dry_run=true"]).splitlines() if "memory of" in line]
    assert [line.split()[3].rstrip(",") for line in lines] == ["sft", "eval", "rft", "grpo"]
    for line in lines:
        figures = [
            float(number)
            for number in re.findall(r"(?:weights|gradients|optimiser|activations|cache) (\S+?)[ ,;]", line)
        ]
        assert float(line.rpartition("sum ")[2]) == pytest.approx(sum(figures), abs=0.3)
    assert "cache" not in lines[0] and "gradients" not in lines[1]
    assert "96 episodes of 8192 tokens, 0.88 each; more than fit wait" in lines[3]
    assert "memory of" not in told(capsys, [*overrides, "dry_run=true", "hardware=cpu"])


def test_servers_that_do_not_come_up_end_the_script_and_those_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = told(capsys, [*PIPELINE, f"outputs={tmp_path}", "dry_run=true"])
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\ncase "$*" in *serve*) exec sleep 1;; esac\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["bash"],
        input=f"PATH={tmp_path}:$PATH\n{script}",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "user.json: its server has exited" in done.stderr


def test_steps_are_data_that_names_what_each_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = steps(capsys, [*PIPELINE, f"outputs={tmp_path}"])
    names = [step["name"] for step in data]
    assert len(set(names)) == len(names)
    for place, step in enumerate(data):
        assert {"name", "argv", "env", "needs"} <= step.keys()
        assert set(step["needs"]) <= set(names[:place])
    train = next(step for step in data if step["name"] == "grpo/train")
    assert train["env"]["CUDA_DEVICE_MAX_CONNECTIONS"] == "1" and "train.py" in train["argv"]
    base = next(step for step in data if step["name"] == "grpo/base")
    assert f"{tmp_path}/ref-rft/checkpoints/last" in base["argv"]


def test_the_first_step_freezes_the_folders_that_the_others_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"outputs={tmp_path}", "stage=rft"]
    first, *others = steps(capsys, overrides)
    assert first["argv"][:4] == ["python", "-m", "tau2_exp", "freeze"]
    assert [other["name"] for other in others] == ["demos/work", "sft/work", "rft/work"]
    assert others[0]["env"]["OMP_NUM_THREADS"] == "1"
    assert freeze_only(first["argv"][4:], []) == 0
    made = capsys.readouterr().out.split()
    assert made == [other["argv"][-1] for other in others]
    assert all((Path(folder) / "config.json").is_file() for folder in made)
    resumed = steps(capsys, [f"resume={made[-1]}"])
    assert [step["name"] for step in resumed] == [other["name"] for other in others]


def test_jobs_of_a_sweep_share_what_they_stand_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = steps(capsys, [f"outputs={tmp_path}", "stage=grpo", "reward.alpha=0.1,0.5", "name=study"], sweep=True)
    names = [step["name"] for step in data]
    assert names[:2] == ["freeze-study-000", "freeze-study-001"]
    assert names[2:] == ["demos/work", "sft/work", "rft/work", "study-000/work", "study-001/work"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b ü", "it's", "100%", "a;b", "$(touch x)"])
def test_a_script_can_be_run_whatever_the_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the name's own rule lets through."""
    outputs = tmp_path / "out put's"
    given = [override("outputs", str(outputs)), "stage=demos", "domain.limit=1", override("name", name)]
    try:
        script = told(capsys, [*given, "dry_run=true"])
    except ConfigError as refused:
        assert "name=" in str(refused)
        return
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"], input=script, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (outputs / name / "results.json").exists()
