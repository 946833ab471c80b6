"""Where a run is done: devices, this machine or SLURM."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class LauncherKind(str, Enum):
    local = "local"
    slurm = "slurm"


class Dtype(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class SlurmConfig:
    """What is asked of SLURM for one job (one stage of one run)."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = 240  # the time limit; a job that reaches it saves, and is queued again
    cpus: int = 1  # cores of each node
    memory_gb: int | None = None  # of each node; null: the partition's default
    at_once: int | None = None  # jobs of a sweep that run at once; null: as many as SLURM lets
    array_limit: int = 1000  # jobs of one array; a longer sweep is split (SLURM's MaxArraySize)
    save_seconds: int = 120  # before its end, a job is told to save
    setup: list[str] = field(default_factory=list)  # shell lines before the worker: module load …
    options: dict[str, str] = field(default_factory=dict)  # further sbatch options, by their long names
    srun: list[str] = field(default_factory=list)  # further arguments of srun: --container-image=…
    python: str | None = None  # the command that is Python on the nodes: apptainer exec …; null: this Python


@dataclass
class HardwareConfig:
    name: str = MISSING
    device: str = "cpu"
    dtype: Dtype = Dtype.float32
    threads: int = 1  # torch threads a process
    jobs: int | None = None  # runs of a sweep side by side; null: one for each core or device
    launcher: LauncherKind = LauncherKind.local
    nodes: int = 1
    gpus: int = 0  # of each node; more than one wants engine=slime
    colocate: bool = True  # slime: training and rollouts take turns on the same GPUs
    train_gpus: int | None = None  # slime, not colocated: of each node's, for training; null: half of them
    user_gpus: int | None = None  # slime: the first node's last GPUs, for the user that user.serve names; null: half
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
