"""How much of a device's memory the cache of open sessions may take."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.memory import GIB

CPU_SHARE = 0.5  # of the machine's memory
CUDA_SHARE = 0.8  # of what is free when a rollout begins; the rest is for the activations of its passes
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Room:
    """The bound of a cache whose sessions hold at most `longest` tokens each."""

    def __init__(self, engine: EngineConfig, device: torch.device, longest: int):
        self.longest = longest
        self._gib, self._device = engine.cache_gib, device

    def bytes(self) -> int:
        """`engine.cache_gib`, or a share of the memory: on a GPU of what is free now, on a CPU of the whole.

        On a CPU, what is free would differ from one run to the next, and with it which sessions decode together.
        """
        if self._gib is not None:
            return int(self._gib * GIB)
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
            return int(CUDA_SHARE * (free + kept))
        return int(CPU_SHARE * machine_memory())


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the control group that this process is in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = GROUP_LIMIT.read_text().strip() if GROUP_LIMIT.is_file() else "max"
    return min(whole, int(limit)) if limit.isdigit() else whole
