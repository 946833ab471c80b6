"""What training keeps on each GPU, computed from the model's sizes, and when the optimizer's part of it has to leave.

Activations are not counted: they are what the rest of the GPU's memory is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tau2_exp.config import Config, ModelConfig
from tau2_exp.engines.slime.plan.layout import Layout
from tau2_exp.engines.slime.plan.model import Given
from tau2_exp.engines.torch import memory
from tau2_exp.engines.torch.shape import ModelShape

WEIGHT_BYTES = 2 + 4  # of each parameter: itself in bfloat16, its gradient in float32
STATE_BYTES = 4 + 4 + 4  # of each parameter: its float32 master and Adam's two moments
SHARE = 0.75  # of a GPU's memory that weights, gradients and optimizer may take together
OFFLOAD = ("optimizer-cpu-offload", "overlap-cpu-optimizer-d2h-h2d", "use-precision-aware-optimizer")


def offload_flags(config: Config, layout: Layout) -> Iterator[Given]:
    """Flags that keep the optimizer in the machine's memory, where it would leave activations less than 1 - SHARE."""
    if kept_gb(config) + optimizer_gb(config, layout) > SHARE * config.hardware.gpu_memory_gb:
        for flag in OFFLOAD:
            yield Given(flag, True)


def kept_gb(config: Config) -> float:
    """GB of weights and gradients on each GPU that trains: tensor, pipeline and expert parallelism divide them."""
    slime = config.engine.slime
    shared, experts = parameters(config.model)
    divided = shared / slime.tensor_parallel + experts / slime.expert_parallel
    return WEIGHT_BYTES * divided / slime.pipeline_parallel / 1e9


def optimizer_gb(config: Config, layout: Layout) -> float:
    """GB of the optimizer on each GPU that trains: slime's is always distributed, so all of them divide it."""
    return STATE_BYTES * sum(parameters(config.model)) / layout.train / 1e9


def parameters(model: ModelConfig) -> tuple[int, int]:
    """How many parameters a Qwen3 of these sizes has: outside of its experts, and in them."""
    shape = ModelShape.from_config(model, model.vocab_size)
    if not model.experts:
        return memory.parameters(shape), 0
    routers = model.layers * model.width * model.experts
    experts = model.layers * model.experts * 3 * model.width * model.expert_ffn
    return memory.parameters(replace(shape, ffn=0)) + routers, experts
