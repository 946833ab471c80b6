"""The cluster that answers here, and how it is spoken to from within one of its own jobs."""

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
    """What its controller says of itself."""

    address: str | None  # its slurm.conf, where this machine has one
    array_size: int | None


def cluster() -> Cluster:
    """Raises ConfigError where nothing can be submitted."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("hardware.launcher=slurm: needs submitit; pip install submitit")
    shown = ask("scontrol", "show", "config")
    if shown.returncode:
        raise ConfigError(f"hardware.launcher=slurm: no cluster answers here ({shown.stderr.strip()})")
    values = dict(re.findall(r"^(\w+)\s*= (\S+)", shown.stdout, re.MULTILINE))
    address, size = values.get("SLURM_CONF", ""), values.get("MaxArraySize", "")
    return Cluster(address if Path(address).is_file() else None, int(size) if size.isdigit() else None)


@contextmanager
def submitting(there: Cluster) -> Iterator[None]:
    """Within a job, its own variables must not decide what another asks for; the cluster's address stays."""
    from submitit.helpers import clean_env, environment_variables

    if allocation() is None:
        yield
    else:
        with clean_env(), environment_variables(**({"SLURM_CONF": there.address} if there.address else {})):
            yield
