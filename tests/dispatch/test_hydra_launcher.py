"""Hydra's words for a launcher are taken for ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import ConfigError, LauncherKind
from tau2_exp.dispatch.hydra_launcher import translate


def test_submitit_s_settings_have_their_counterparts() -> None:
    given = [
        "stage=sft",
        "hardware=gpu_1",
        "seed=0,1",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.timeout_min=30",
    ]
    given += ["hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=4", "hydra.launcher.gpus_per_node=1"]
    given += ["+hydra.launcher.additional_parameters.mail-type=END", "hydra.launcher.setup=['module load cuda']"]
    hardware = compose_config([text for text in translate(given) if not text.startswith("seed")]).hardware
    assert hardware.launcher is LauncherKind.slurm and hardware.gpus == 1
    slurm = hardware.slurm
    assert (slurm.minutes, slurm.partition, slurm.at_once) == (30, "gpu", 4)
    assert slurm.options == {"mail-type": "END"} and slurm.setup == ["module load cuda"]


def test_what_has_no_counterpart_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"max_num_timeout=3: has no counterpart .* timeout_min"):
        translate(["hydra.launcher.max_num_timeout=3"])
    with pytest.raises(ConfigError, match="there are submitit_slurm, submitit_local, basic"):
        translate(["hydra/launcher=joblib"])


def test_run_py_takes_it(run_py: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_py("hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=4", "--cfg", "job")
    assert done.returncode == 0 and "launcher: slurm" in done.stdout and "memory_gb: 4" in done.stdout, done.stderr
