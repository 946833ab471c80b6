"""Where the engine computes, and in which numbers."""

from __future__ import annotations

import torch

from tau2_exp.config import ConfigError, Dtype, HardwareConfig


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
