"""Where the engine computes, and in which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tau2_exp.config import ConfigError, Dtype, HardwareConfig, OutOfMemory

LOADING = "take a smaller model, or hardware.dtype=bfloat16 on a GPU"
SAMPLING = "lower engine.cache_gib, rollout.concurrency, or model.context"
TRAINING = (
    "lower engine.batch_tokens, set engine.recompute=true, train an adapter (model.lora=16), or do without GRPO's "
    "reference (stage.kl=0)"
)
MESSAGE = 160  # characters of torch's message
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")  # in torch's own messages


def prepare(hardware: HardwareConfig) -> torch.device:
    """Set torch's threads, and return the device. Raises ConfigError where there is no such device."""
    torch.set_num_threads(hardware.threads)
    try:
        device = torch.device(hardware.device)
    except RuntimeError:
        raise ConfigError(f"hardware.device={hardware.device}: not a device; use cpu, cuda or cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"hardware.device={hardware.device}: torch sees no GPU here; use hardware=cpu")
    return device


def dtype_of(hardware: HardwareConfig) -> torch.dtype:
    """The torch type of weights and activations: bfloat16 or float32."""
    return torch.bfloat16 if hardware.dtype is Dtype.bfloat16 else torch.float32


@contextmanager
def memory_for(what: str, mend: str) -> Iterator[None]:
    """Raises OutOfMemory in one line with the mend, where the device has no memory for what is done inside."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, what, mend) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, or Python, could not get memory: a GPU's, or this machine's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def out_of_memory(error: Exception, what: str, mend: str) -> OutOfMemory:
    """The error in one line: what was done, torch's first sentence on it, and the mend."""
    reason = " ".join(str(error).split()).partition(". ")[0][:MESSAGE] or type(error).__name__
    return OutOfMemory(f"out of memory while {what} ({reason}): {mend}")
