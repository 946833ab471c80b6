"""What memory.py computes from sizes is what torch holds: weights, optimiser, what waits for the backward pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import EngineConfig, ModelConfig, SftConfig
from tau2_exp.engines.torch import memory
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.optimiser import Optimiser
from tau2_exp.engines.torch.shape import ModelShape
from tests.engines.conftest import SHAPE, row

LLAMA = dataclasses.replace(SHAPE, family="llama", qk_norm=False, tied=False, layers=3, heads=6)
QWEN2 = dataclasses.replace(LLAMA, family="qwen2", qkv_bias=True)
SHAPES = [SHAPE, LLAMA, QWEN2]


@pytest.mark.parametrize("shape", [*SHAPES, dataclasses.replace(LLAMA, qkv_bias=True, out_bias=True)])
def test_weights_are_counted(shape):
    with torch.device("meta"):
        assert memory.parameters(shape) == sum(weight.numel() for weight in CausalLM(shape).parameters())


@pytest.mark.parametrize("targets", [[], ["q_proj", "mlp.down_proj"]])
def test_an_adapters_weights_are_counted(targets):
    pytest.importorskip("peft")
    model, config = new_model(LLAMA, 0), ModelConfig(name="test", lora=4, lora_targets=targets)
    Adapter(model, config, 0, "nowhere")
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert memory.adapter_parameters(LLAMA, config) == trained


@pytest.mark.parametrize(("dtype", "size"), [("float32", 8), ("bfloat16", 12)])
def test_the_optimiser_holds_what_is_estimated(dtype, size):
    model = new_model(SHAPE, 0).to(getattr(torch, dtype))
    optimiser = Optimiser(model, SftConfig())
    for _, master in optimiser._pairs:
        master.grad = torch.ones_like(master)
    optimiser.step(1e-3)
    state = optimiser.state_dict()
    moments = [value for of_one in state["adam"]["state"].values() for value in of_one.values() if value.ndim]
    held = sum(tensor.nbytes for tensor in [*moments, *filter(lambda x: x is not None, state["masters"])])
    config = compose_config(["stage=sft", f"hardware.dtype={dtype}", "hardware.device=cuda"])
    assert held == size * memory.parameters(SHAPE) == memory.estimate(config, SHAPE).optimiser


def kept(model: CausalLM, lengths: list[int], ancestors: list[tuple[int, ...]] | None = None) -> int:
    """Bytes that a forward pass keeps for the backward one, each tensor's memory once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.packed(torch.zeros(sum(lengths), dtype=torch.long), lengths, None, ancestors)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_waits_for_the_backward_pass_is_counted_to_the_byte(shape, recompute):
    model = new_model(shape, 0, recompute)
    assert kept(model, [50]) == 50 * memory.kept_bytes(shape, 4, recompute)


def test_a_branch_is_charged_for_the_keys_and_values_before_it():
    """On a CPU it also keeps its queries by heads that share keys, and one mask for all layers."""
    model, ratio = new_model(LLAMA, 0), LLAMA.heads // LLAMA.kv_heads
    whole, parted = kept(model, [60]), kept(model, [30, 10, 20], [(), (0,), (0,)])
    queries = LLAMA.layers * 30 * LLAMA.heads * LLAMA.head_dim * 4
    masks = 4 * ratio * (10 * 40 + 20 * 50)
    charged = (40 + 50) * memory.repeated_share(LLAMA, 4) * memory.layer_bytes(LLAMA, 4)
    assert parted - whole - queries - masks == LLAMA.layers * round(charged)


def test_micro_batches_of_many_branches_are_smaller(model):
    """Thirty branches after a long prompt: what each keeps of it is charged, and fewer go together."""
    prompt = row(400, 0)
    rows = [
        dataclasses.replace(own, ids=(*prompt.ids[:380], *own.ids[380:])) for own in (row(400, n) for n in range(30))
    ]
    batches = list(model.batches(rows, 1100))
    assert len(batches) > 1
    share = memory.repeated_share(SHAPE, model.head.element_size())
    for batch in batches:
        copied = 400 * (len(batch.lengths) - 1) if len(batch.lengths) > 1 else 0
        assert len(batch.ids) + share * copied <= 1100


def test_the_estimates_are_those_of_the_scaling_page():
    """Weights, gradients and optimiser, in GiB: what docs/scaling.md says of 0.6B and 4B."""
    for name, sft, grpo in (("qwen3_0_6b", 10.0, 11.1), ("qwen3_4b_instruct_2507", 67.4, 74.9)):
        for stage, expected in (("sft", sft), ("grpo", grpo)):
            config = compose_config([f"stage={stage}", f"model={name}", "hardware=gpu_1"])
            if stage == "grpo":
                config = dataclasses.replace(config, stage=dataclasses.replace(config.stage, kl=0.1))
            found = memory.estimate(config, ModelShape.from_config(config.model, config.model.vocab_size))
            static = found.total - found.activations - found.cache
            assert static / memory.GIB == pytest.approx(expected, abs=0.06)
    assert EngineConfig().recomputes("cuda") and not EngineConfig().recomputes("cpu")
    assert not EngineConfig(recompute=False).recomputes("cuda")
