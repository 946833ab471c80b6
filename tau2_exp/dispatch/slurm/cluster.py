"""The SLURM cluster of this machine, and how to submit to it from within one of its own jobs."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.slurm.queue import ask
from tau2_exp.system.allocation import allocation


@dataclass(frozen=True)
class Cluster:
    """A cluster, as its controller describes it."""

    address: str | None  # its slurm.conf, where this machine has one
    array_size: int | None


def cluster() -> Cluster:
    """The cluster that this machine submits to. Raises ConfigError where there is none, or submitit is missing."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("hardware.launcher=slurm: needs submitit; pip install submitit")
    shown = ask("scontrol", "show", "config")
    if shown.returncode:
        raise ConfigError(f"hardware.launcher=slurm: no SLURM cluster answers here ({shown.stderr.strip()})")
    values = dict(re.findall(r"^(\w+)\s*= (\S+)", shown.stdout, re.MULTILINE))
    address, size = values.get("SLURM_CONF", ""), values.get("MaxArraySize", "")
    return Cluster(address if Path(address).is_file() else None, int(size) if size.isdigit() else None)


@contextmanager
def submitting(there: Cluster) -> Iterator[None]:
    """Within a job, hide the job's own variables from sbatch, but the cluster's address."""
    from submitit.helpers import clean_env, environment_variables

    if allocation() is None:
        yield
    else:
        with clean_env(), environment_variables(**({"SLURM_CONF": there.address} if there.address else {})):
            yield
