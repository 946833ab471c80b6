"""torch's attention backends: which one a call gets, and which are fit for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

OPERATORS = {  # what the profiler sees of each backend; the most telling first
    "cudnn": ("scaled_dot_product_cudnn_attention",),
    "flash": ("scaled_dot_product_flash_attention", "_flash_attention_forward"),
    "efficient": ("scaled_dot_product_efficient_attention", "_efficient_attention_forward"),
    "math": ("scaled_dot_product_attention_math",),
}
FUSED = {
    "cuda": {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    },
    "cpu": {"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH},
}


def taken(work: Callable[[], object], device: str) -> tuple[list[str], list[str]]:
    """The backends that `work` gets, by the operators it calls, and the names of the kernels that the card runs."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    work()
    with profile(activities=activities) as seen:
        work()
        if device != "cpu":
            torch.cuda.synchronize()
    events = seen.events() or []
    operators = {event.name for event in events if event.device_type == DeviceType.CPU}
    found = [name for name, marks in OPERATORS.items() if any(m in o for m in marks for o in operators)]
    return found, kernels(events)


def kernels(events: list) -> list[str]:
    """The kernels among a profile's events, in the order in which the card ran them; copies and fills are not ones."""
    ran = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
    ran.sort(key=lambda event: event.time_range.start)
    return [event.name for event in ran if not event.name.startswith(("Memcpy", "Memset"))]


def refusal(work: Callable[[], object], backend: SDPBackend) -> str | None:
    """Why torch does not take `backend` for the calls of `work`; None where it does."""
    with warnings.catch_warnings(record=True) as told, sdpa_kernel(backend):
        warnings.simplefilter("always")
        try:
            work()
        except RuntimeError as error:
            reasons = [" ".join(str(warning.message).split()) for warning in told]
            return next((text for text in reasons if "disabled" not in text), str(error).splitlines()[0])
    return None
