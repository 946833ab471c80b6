"""Hydra's way of naming a launcher, for those who are used to it: its settings by ours.

`hydra/launcher=submitit_slurm hydra.launcher.partition=gpu` is `hardware.launcher=slurm hardware.slurm.partition=gpu`.
Hydra's plugin itself is never called: it composes anew when a job starts, stays until all are done, and lets a job
that raised end as a success.
"""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.config import ConfigError

CHOICE, SETTING = "hydra/launcher", "hydra.launcher."
LAUNCHERS = {"submitit_slurm": "slurm", "submitit_local": "local", "basic": "local"}
SETTINGS = {
    "timeout_min": "hardware.slurm.minutes",
    "cpus_per_task": "hardware.slurm.cpus",
    "mem_gb": "hardware.slurm.memory_gb",
    "partition": "hardware.slurm.partition",
    "account": "hardware.slurm.account",
    "qos": "hardware.slurm.qos",
    "constraint": "hardware.slurm.constraint",
    "signal_delay_s": "hardware.slurm.save_seconds",
    "array_parallelism": "hardware.slurm.at_once",
    "setup": "hardware.slurm.setup",
    "srun_args": "hardware.slurm.srun",
    "nodes": "hardware.nodes",
    "gpus_per_node": "hardware.gpus",
}
PARAMETERS = "additional_parameters."


def translate(overrides: Sequence[str]) -> list[str]:
    """The overrides with ours in place of Hydra's launcher's. Raises ConfigError for one that has no counterpart."""
    return [_translated(text) for text in overrides]


def _translated(text: str) -> str:
    key, _, value = text.lstrip("+").partition("=")
    if key == CHOICE:
        if value not in LAUNCHERS:
            raise ConfigError(f"{text}: no such launcher here; there are {', '.join(LAUNCHERS)}")
        return f"hardware.launcher={LAUNCHERS[value]}"
    if not key.startswith(SETTING):
        return text
    name = key.removeprefix(SETTING)
    if name.startswith(PARAMETERS):
        return f"+hardware.slurm.options.{name.removeprefix(PARAMETERS)}={value}"
    if name not in SETTINGS:
        raise ConfigError(f"{text}: has no counterpart under hardware.slurm; there are {', '.join(SETTINGS)}")
    return f"{SETTINGS[name]}={value}"
