"""The nodes and GPUs of this process: the one place that reads them from the variables of SLURM and of the shell."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.config import ConfigError


@dataclass(frozen=True)
class Allocation:
    """A job's nodes, and which of them this is. One task a node: ranks are places in `nodes`."""

    job: str
    restarts: int  # how often the job was put back into the queue
    nodes: tuple[str, ...]
    rank: int

    @property
    def key(self) -> str:
        """Names this attempt of the job: a job that was queued again is another one."""
        return f"{self.job}.{self.restarts}"

    @property
    def head(self) -> str:
        """The name of the first node."""
        return self.nodes[0]

    @property
    def here(self) -> str:
        """The name of this process's node."""
        return self.nodes[self.rank]


def allocation() -> Allocation | None:
    """This process's SLURM job; None outside one. Raises ValueError where SLURM's variables contradict one another."""
    job, listed = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOB_NODELIST")
    if not job or not listed:
        return None
    nodes = expand_nodes(listed)
    rank = int(os.environ.get("SLURM_NODEID", "0"))
    if rank >= len(nodes):
        raise ValueError(f"SLURM_NODEID={rank}: there are {len(nodes)} nodes in SLURM_JOB_NODELIST={listed}")
    return Allocation(job, int(os.environ.get("SLURM_RESTART_COUNT") or "0"), nodes, rank)


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; None where it may use all."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def own_gpus(places: Sequence[str]) -> tuple[str, ...]:
    """GPUs by their place among those that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Raises ConfigError where it was given fewer.
    """
    visible = visible_gpus()
    if visible is None:
        return tuple(places)
    if missing := [place for place in places if not place.isdigit() or int(place) >= len(visible)]:
        left = f"leaves 0 to {len(visible) - 1}" if visible else "leaves none"
        raise ConfigError(f"GPU {','.join(missing)}: CUDA_VISIBLE_DEVICES={','.join(visible)} {left}")
    return tuple(visible[int(place)] for place in places)


def expand_nodes(listed: str) -> tuple[str, ...]:
    """SLURM's list of hosts written out: `gpu[01-03,7],login` is gpu01, gpu02, gpu03, gpu7, login."""
    parts = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", listed)
    return tuple(name for part in parts for name in _expand(part))


def _expand(part: str) -> list[str]:
    """One entry of the list; it may hold several brackets, of which the first varies slowest."""
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    ranges, _, after = rest.partition("]")
    return [before + number + tail for number in _numbers(ranges) for tail in _expand(after)]


def _numbers(ranges: str) -> list[str]:
    """`01-03,7` as 01, 02, 03, 7: numbers keep their leading zeros."""
    found: list[str] = []
    for piece in ranges.split(","):
        first, _, last = piece.partition("-")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return found


def is_set(name: str) -> bool:
    """Whether this environment variable (NCCL_SOCKET_IFNAME, say) is set, as a machine's owner does for its jobs."""
    return bool(os.environ.get(name))
