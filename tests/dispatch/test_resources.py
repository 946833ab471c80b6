"""What GPUs a process has: those of the machine, less those that it was not given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tau2_exp.config import HardwareConfig
from tau2_exp.dispatch.local.processes import slots
from tau2_exp.dispatch.resources import gpu_names, usable_gpus


def test_a_sweep_goes_on_the_gpus_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\nfor i in 0 1 2 3; do echo "GPU $i: Stand-in (UUID: none-$i)"; done\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    hardware = HardwareConfig(name="test", device="cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names() == ["Stand-in"] * 4
    assert usable_gpus() == ["0", "1", "2", "3"] and slots(hardware) == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert usable_gpus() == ["3", "1"] and slots(hardware) == 2
