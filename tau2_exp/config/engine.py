"""What trains and generates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tau2_exp.config.setting import setting


class EngineName(str, Enum):
    """The engines; see `engine=CHOICE`."""

    torch = "torch"
    slime = "slime"


class Backbone(str, Enum):
    """What computes a model in engine=torch; see `engines/torch/choice.py`."""

    auto = "auto"
    own = "own"
    transformers = "transformers"


class Sampler(str, Enum):
    """What samples the turns of a model in engine=torch; see `engines/torch/sampler.py`."""

    torch = "torch"
    sglang = "sglang"


@dataclass
class SlimeConfig:
    """Where slime lies in its container, and how it divides a model and the GPUs."""

    root: str = setting("/root/slime", "folder of slime's code in the container", path=True)
    megatron: str = setting("/root/Megatron-LM", "folder of Megatron-LM's code in the container", path=True)
    tensor_parallel: int = setting(2, "GPUs that share each layer's matrices in training", above=0)
    pipeline_parallel: int = setting(1, "groups of GPUs that share the layers in training", above=0)
    context_parallel: int = setting(1, "GPUs that share one long sequence in training", above=0)
    expert_parallel: int = setting(1, "GPUs that share the experts in training; 1 for a dense model", above=0)
    server_gpus: int = setting(2, "GPUs of one SGLang server", above=0)
    memory_fraction: float = setting(
        0.70, "share of a GPU's memory that SGLang takes for its weights and cache", above=0, at_most=1
    )
    asynchronous: bool = setting(
        False, "whether rollouts go on while the model is trained (train_async.py); needs hardware.colocate=false"
    )
    start_seconds: int = setting(
        1800, "seconds to wait until a server answers, or until all nodes of Ray are there", above=0
    )
    flags: dict[str, Any] = setting(
        dict, "further flags of slime, Megatron and SGLang, without the dashes; unknown ones are refused"
    )


@dataclass
class EngineConfig:
    """What computes: torch in one process, or slime on many GPUs."""

    name: EngineName = setting(EngineName.torch, "which engine: torch, slime")
    lockstep: bool = setting(
        True, "torch: decode only when every open episode waits, so that a seed has one result; false is faster"
    )
    batch_tokens: int = setting(
        16384, "most tokens in one forward and backward pass; lower it when memory runs out", above=0
    )
    backbone: Backbone = setting(
        Backbone.auto,
        "torch: what computes a checkpoint's model: own (packed rows, shared prefixes: dense Qwen3, Qwen2, Llama, "
        "Mistral), transformers (any causal language model: padded, slower), auto (own where it can)",
    )
    recompute: bool | None = setting(
        None,
        "whether the backward pass computes the activations again: less memory, more time; null: with engine=torch on "
        "a GPU",
    )
    cache_gib: float | None = setting(
        None,
        "torch: GiB that the keys and values of open episodes may take, the others wait; null: on a GPU 0.8 of what is "
        "free when a rollout begins, on a CPU half of the machine's memory",
        above=0,
    )
    sampler: Sampler = setting(
        Sampler.torch,
        "torch: what samples the turns of RFT, GRPO and evaluations: torch (this process), sglang (a local SGLang "
        "server, started for the run, which gets the weights of every step)",
    )
    sampler_memory: float = setting(
        0.4,
        "share of the GPU's memory that the server of sampler=sglang takes, also while the model trains beside it",
        above=0,
        at_most=1,
    )
    slime: SlimeConfig = setting(SlimeConfig, "settings of engine=slime alone")

    def recomputes(self, device: str) -> bool:
        """Whether engine=torch computes activations again on this kind of device (cpu, cuda)."""
        return device == "cuda" if self.recompute is None else self.recompute
