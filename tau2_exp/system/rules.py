"""Checks of the settings of devices and of SLURM."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tau2_exp.config import Config, Dtype, LauncherKind, SlurmConfig


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    hardware = config.hardware
    if not re.fullmatch(r"cpu|cuda(:\d+)?", hardware.device):
        yield f"hardware.device={hardware.device}: must be cpu, cuda or cuda:N"
    if hardware.device == "cpu" and hardware.dtype is Dtype.bfloat16:
        yield "hardware.dtype=bfloat16: slower and coarser than float32 on a CPU; use float32, or hardware=gpu_1"
    if hardware.launcher is LauncherKind.slurm:
        yield from _slurm(hardware.slurm)


def _slurm(slurm: SlurmConfig) -> Iterator[str]:
    if slurm.minutes * 60 <= slurm.save_seconds + 60:
        yield (
            f"hardware.slurm.minutes={slurm.minutes}: with save_seconds={slurm.save_seconds}, which SLURM may round up "
            "by a minute, a job is told to save as it begins; raise minutes"
        )
    for key, texts in (("setup", slurm.setup), ("srun", slurm.srun), ("options", slurm.options.values())):
        if any(re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=[^$\s]", text, re.IGNORECASE) for text in texts):
            yield f"hardware.slurm.{key}: holds a key; export it where you start the run, SLURM hands it to the jobs"
