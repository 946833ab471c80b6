"""Where a run is done: devices, this machine or SLURM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from tau2_exp.config.setting import setting


class LauncherKind(str, Enum):
    """Who starts the runs."""

    local = "local"
    slurm = "slurm"


class Dtype(str, Enum):
    """The numbers that a model computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class SlurmConfig:
    """What is asked of SLURM for one job (one stage of one run)."""

    partition: str | None = setting(None, "partition of the jobs; null: the cluster's default")
    account: str | None = setting(None, "account that the jobs are charged to; null: the cluster's default")
    qos: str | None = setting(None, "quality of service of the jobs; null: the cluster's default")
    constraint: str | None = setting(None, "features that the nodes must have; null: none")
    minutes: int = setting(
        240, "time limit of a job, in minutes; a job that reaches it saves and is queued again", above=0
    )
    cpus: int = setting(1, "cores of each node", above=0)
    memory_gb: int | None = setting(None, "memory of each node, in GB; null: the partition's default", above=0)
    at_once: int | None = setting(
        None, "jobs of a sweep that run at the same time; null: as many as SLURM allows", above=0
    )
    array_limit: int = setting(1000, "most jobs of one array; a longer sweep is split (SLURM's MaxArraySize)", above=0)
    save_seconds: int = setting(120, "seconds before its time limit at which a job is told to save", above=0)
    setup: list[str] = setting(list, "shell lines to run before the worker, such as module load cuda")
    options: dict[str, str] = setting(
        dict, "further options of sbatch, by their long names without the dashes; true: a flag without a value"
    )
    srun: list[str] = setting(list, "further arguments of srun, such as --container-image=IMAGE")
    python: str | None = setting(
        None, "command that starts Python on the nodes, such as apptainer exec IMAGE python; null: this Python"
    )


@dataclass
class HardwareConfig:
    """The devices, and who starts the runs: this machine or SLURM."""

    name: str = setting(MISSING, "name of this choice of hardware, for messages")
    device: str = setting("cpu", "where engine=torch computes: cpu, cuda, cuda:N")
    dtype: Dtype = setting(Dtype.float32, "numbers that the model computes in: float32, bfloat16 (GPU only)")
    threads: int = setting(1, "CPU threads of torch in each process", above=0)
    jobs: int | None = setting(
        None, "runs of a sweep that are done at the same time; null: one for each core or GPU", above=0
    )
    launcher: LauncherKind = setting(
        LauncherKind.local, "who starts the runs: local (this machine), slurm (as jobs of a cluster)"
    )
    nodes: int = setting(1, "number of machines; more than one needs engine=slime", above=0)
    gpus: int = setting(0, "GPUs of each node; more than one needs engine=slime", at_least=0)
    gpu_memory_gb: int = setting(
        80,
        "slime: memory of one GPU, in GB; where training's weights, gradients and optimizer would take more than three "
        "quarters of it, the optimizer lies in the machine's memory",
        above=0,
    )
    colocate: bool = setting(True, "slime: whether training and rollouts take turns on the same GPUs")
    train_gpus: int | None = setting(
        None, "slime with colocate=false: GPUs of each node that train; null: half of them", above=0
    )
    user_gpus: int | None = setting(
        None, "slime: GPUs of the first node, the last ones, that serve user.serve; null: half of them", at_least=0
    )
    slurm: SlurmConfig = setting(SlurmConfig, "what is asked of SLURM for each job; read with launcher=slurm")
