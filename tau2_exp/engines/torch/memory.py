"""How much memory of a GPU a run takes: computed from the sizes of its model, without torch.

What is kept for the backward pass is counted tensor by tensor, as `model.Layer` makes them; a test counts them in
torch. What lives for a moment only comes on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tau2_exp.config import (
    Config,
    ConfigError,
    Dtype,
    EngineName,
    EvalConfig,
    GrpoConfig,
    ModelConfig,
    PipelineConfig,
    RftConfig,
    TrainingConfig,
)
from tau2_exp.engines.torch.choice import loads_model, read_config
from tau2_exp.engines.torch.hub import Unreachable
from tau2_exp.engines.torch.sampler import is_served
from tau2_exp.engines.torch.shape import ModelShape

GIB = 1 << 30
FULL = 4  # bytes of a float32
CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}  # of float32 logits held at once while a loss is computed


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes. `cache` is what all episodes that are open at once would take, each as long as its context."""

    weights: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    activations: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        """The sum; a rollout's cache is gone when the model trains, and activations while it samples."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.cache


def parameters(shape: ModelShape) -> int:
    """How many weights a decoder has."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    biases = shape.qkv_bias * (queries + 2 * keys) + shape.out_bias * shape.width
    norms = 2 * shape.width + shape.qk_norm * 2 * shape.head_dim
    matrices = sum(a * b for _, a, b in linear_layers(shape))
    embeddings = (1 if shape.tied else 2) * shape.vocab_size * shape.width
    return embeddings + shape.layers * (matrices + biases + norms) + shape.width


def linear_layers(shape: ModelShape) -> Iterator[tuple[str, int, int]]:
    """The matrices of one layer: name, inputs, outputs."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "q_proj", shape.width, queries
    yield "k_proj", shape.width, keys
    yield "v_proj", shape.width, keys
    yield "o_proj", queries, shape.width
    yield "gate_proj", shape.width, shape.ffn
    yield "up_proj", shape.width, shape.ffn
    yield "down_proj", shape.ffn, shape.width


def layer_bytes(shape: ModelShape, size: int) -> int:
    """What a token leaves in one layer for the backward pass, in numbers of `size` bytes.

    Two norms and what they are given (4·width); queries before and after their norm, the output of attention, the same
    laid end to end; keys before and after their norm, values; four tensors of the feed-forward block. In float32: the
    norms' scales, and the logarithms of attention's sums.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    numbers = 4 * shape.width + (3 + shape.qk_norm) * queries + (2 + shape.qk_norm) * keys + 4 * shape.ffn
    scales = 2 + shape.qk_norm * (shape.heads + shape.kv_heads) + shape.heads
    return numbers * size + scales * FULL


def kept_bytes(shape: ModelShape, size: int, recompute: bool) -> int:
    """What a token leaves in all layers for the backward pass; with `recompute` that is each layer's input alone."""
    around = (shape.width + 2 * shape.head_dim) * size + FULL + 8  # the last norm, RoPE's angles, the id
    return around + shape.layers * (shape.width * size if recompute else layer_bytes(shape, size))


def repeated_share(shape: ModelShape, size: int) -> float:
    """The part of a token's activations that its key and value are: what a branch takes for each token before it."""
    return 2 * shape.kv_heads * shape.head_dim * size / layer_bytes(shape, size)


def activation_bytes(shape: ModelShape, size: int, tokens: int, recompute: bool) -> int:
    """Of a micro-batch of `tokens` on a GPU: what is kept, a layer that is computed again, and the loss.

    The loss holds three chunks of logits (the log-probabilities, their exponentials and gradient) and the output matrix
    and its gradient in float32.
    """
    again = tokens * layer_bytes(shape, size) if recompute else 0
    head = 2 * shape.vocab_size * shape.width * FULL
    logits = 3 * min(CHUNK_BYTES["cuda"], tokens * shape.vocab_size * FULL)
    return tokens * kept_bytes(shape, size, recompute) + again + head + logits


def adapter_parameters(shape: ModelShape, model: ModelConfig) -> int:
    """How many weights a LoRA adapter has: rank · (inputs + outputs) for each target; none without one."""
    return (model.lora or 0) * shape.layers * sum(a + b for _, a, b in _targets(shape, model))


def cache_bytes(shape: ModelShape, size: int) -> int:
    """The keys and values of one token."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * size


def estimate(config: Config, shape: ModelShape) -> Estimate:
    """What a run of one stage takes on a GPU, with a model of this shape.

    A trained weight has a float32 gradient and two moments (AdamW), and in bfloat16 a float32 master; an adapter is in
    float32, and in bfloat16 keeps its inputs in float32 too.
    """
    size = 2 if config.hardware.dtype is Dtype.bfloat16 else FULL
    stage, model = config.stage, config.model
    whole = parameters(shape)
    cache = 0.0
    if isinstance(stage, (RftConfig, GrpoConfig, EvalConfig)) and not is_served(config):
        cache = cache_bytes(shape, size) * model.context * config.rollout.concurrency
    if not isinstance(stage, TrainingConfig):
        return Estimate(whole * size, cache=cache)
    adapter = adapter_parameters(shape, model)
    trained = adapter if model.lora else whole
    weights = whole * size + adapter * FULL
    if isinstance(stage, GrpoConfig) and stage.kl > 0 and not model.lora:
        weights += whole * size  # the reference
    master = FULL if size < FULL and not model.lora else 0
    tokens, recompute = config.engine.batch_tokens, config.engine.recomputes("cuda")
    activations = activation_bytes(shape, size, tokens, recompute)
    if model.lora:
        inputs = sum((a if size < FULL else 0) + model.lora for _, a, _ in _targets(shape, model))
        activations += tokens * inputs * FULL * (1 if recompute else shape.layers)
    return Estimate(weights, FULL * trained, (2 * FULL + master) * trained, activations, cache)


def told(config: Config) -> str | None:
    """The plan's line about the memory of a run on a GPU; None where it loads no model into this engine there."""
    if config.engine.name is not EngineName.torch or not config.hardware.device.startswith("cuda"):
        return None
    if isinstance(config.stage, PipelineConfig) or not loads_model(config):  # a pipeline's members are told one by one
        return None
    shape = _shape(config)
    name = config.stage.name
    if shape is None:
        return f"memory of {name}: not estimated: the model's sizes are not known, or transformers computes it"
    found = estimate(config, shape)
    parts = [f"weights {_gib(found.weights)}"]
    if found.gradients:
        how = ", recomputed" if config.engine.recomputes("cuda") else ""
        parts += [f"gradients {_gib(found.gradients)}", f"optimiser {_gib(found.optimiser)}"]
        parts += [f"activations {_gib(found.activations)} ({config.engine.batch_tokens} tokens a pass{how})"]
    if found.cache:
        count, context = config.rollout.concurrency, config.model.context
        one = _gib(found.cache / count)
        parts += [f"cache {_gib(found.cache)} ({count} episodes of {context} tokens, {one} each; more than fit wait)"]
    return f"memory of {name}, GiB, computed: {', '.join(parts)}; sum {_gib(found.total)}"


def _gib(count: float) -> str:
    return f"{count / GIB:.2f}" if count < GIB else f"{count / GIB:.1f}"


def _targets(shape: ModelShape, model: ModelConfig) -> list[tuple[str, int, int]]:
    layers = list(linear_layers(shape))
    named = [layer for layer in layers if any(target.endswith(layer[0]) for target in model.lora_targets)]
    return named if model.lora_targets else layers


def _shape(config: Config) -> ModelShape | None:
    """The shape of the run's model; None where nothing here says it, or where it is not the own decoder's."""
    model = config.model
    named = model.name != "hf"  # else the sizes in the configuration are nobody's
    if model.path:
        try:
            return ModelShape.from_hf(read_config(model.path))
        except Unreachable:
            pass
        except (OSError, ValueError, KeyError, ConfigError):
            return None
    return ModelShape.from_config(model, model.vocab_size) if named else None
