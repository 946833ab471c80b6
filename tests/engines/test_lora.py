"""Only the adapter is trained, others read it as peft's, and merged it says what it said beside its base."""

from __future__ import annotations

import copy

import pytest
import torch

from tau2_exp.config import ConfigError, EngineConfig, GrpoConfig, ModelConfig, SftConfig
from tau2_exp.engines.torch.checkpoint import load_model, load_training, save_checkpoint
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.shape import LINEAR
from tau2_exp.engines.torch.trainer import Trainer
from tests.engines.conftest import SHAPE, lively, row, tokens
from tests.engines.families import new_family
from tests.engines.test_checkpoint import TOKENIZER

peft = pytest.importorskip("peft", reason="peft is not installed (it is in the extra hf)")

ROWS = [row(n, seed=n) for n in (20, 9, 31)]
SFT = SftConfig(lr=0.01, warmup=0.0)


def adapted(model: CausalLM, base: str = "some/base", **settings) -> CausalLM:
    config = ModelConfig(**{"name": "test", "lora": 4} | settings)
    model.adapter = Adapter(model, config, seed=3, base=base)
    return model


def trained(model: CausalLM, steps: int = 3) -> Trainer:
    trainer = Trainer(model, SFT, 10, EngineConfig())
    for _ in range(steps):
        trainer.sft_step(ROWS)
    return trainer


@torch.no_grad()
def logits(model: CausalLM) -> torch.Tensor:
    ids = torch.tensor(tokens(40), device=model.device)
    return model.logits(model.packed(ids, [40]))


def test_training_moves_the_adapter_alone_and_switched_off_it_leaves_the_base(model, place):
    before, weights = logits(model), copy.deepcopy(model.state_dict())
    adapted(model)
    assert torch.equal(logits(model), before), "a new adapter changes nothing"
    trainer = trained(model)
    found = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == SHAPE.layers * len(LINEAR) * 2 and all(".lora_" in name for name in names)
    assert {name.split(".")[4] for name in names} == set(LINEAR)
    state = trainer.state_dict()["optimiser"]
    assert len(state["adam"]["state"]) == len(names) and not any(m is not None for m in state["masters"])
    assert not torch.equal(logits(model), before)
    with model.adapter.off():
        assert torch.equal(logits(model), before)


def test_merged_it_says_the_same_here_in_transformers_and_in_peft(tmp_path, model, place):
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "base", model, TOKENIZER)
    trained(adapted(model, base=str(tmp_path / "base"), lora_targets=["q_proj", "down_proj"], lora_alpha=12))
    save_checkpoint(tmp_path / "last", model, TOKENIZER)
    expected = logits(model)
    assert place.alike([logits(load_model(tmp_path / "last", place.hardware))], [expected], 1e-5)

    def theirs(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=place.dtype).to(place.device)

    ids = torch.tensor([tokens(40)], device=place.device)
    settings = peft.PeftConfig.from_pretrained(tmp_path / "last" / "adapter")
    assert (settings.r, settings.lora_alpha, settings.target_modules) == (4, 12, {"q_proj", "down_proj"})
    beside = peft.PeftModel.from_pretrained(theirs(settings.base_model_name_or_path), tmp_path / "last" / "adapter")
    with torch.no_grad():
        for other in (theirs(tmp_path / "last"), beside):
            assert place.alike([other(ids).logits[0].float()], [expected], 1e-5)


@pytest.mark.parametrize(
    ("config", "dtype"), [(SFT, torch.float32), (GrpoConfig(lr=0.01), torch.bfloat16)], ids=["sft", "grpo"]
)
def test_it_goes_on_bit_for_bit_from_a_checkpoint_without_the_base(tmp_path, place, config, dtype):
    def fresh() -> Trainer:
        model = lively(new_model(SHAPE, seed=1)).to(place.device, dtype)
        return Trainer(adapted(model, lora_dropout=0.5), config, 6, EngineConfig())

    def go_on(trainer: Trainer, first: int, last: int) -> list[torch.Tensor]:
        for number in range(first, last):
            step = trainer.sft_step if config is SFT else trainer.grpo_step
            step([row(n, seed=100 * number + n) for n in (12, 25)])
        return [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]

    whole, first, second = fresh(), fresh(), fresh()
    go_on(first, 0, 2)
    save_checkpoint(tmp_path / "last", first.model, TOKENIZER, first, weights=False)
    assert not list((tmp_path / "last").glob("model*")) and (tmp_path / "last/adapter/adapter_config.json").is_file()
    with pytest.raises(ConfigError, match=r"holds an adapter alone; resume its run"):
        load_model(tmp_path / "last", place.hardware)
    second.model.adapter.load(tmp_path / "last")
    second.load_state_dict(load_training(tmp_path / "last", place.device).trainer)
    found = go_on(second, 2, 4)
    assert place.repeated(found, go_on(whole, 0, 4)) and {p.dtype for p in found} == {torch.float32}


@pytest.mark.parametrize("family", ["qwen3.5", "qwen3-moe"])
def test_on_a_model_of_transformers_it_goes_on_bit_for_bit_and_is_peft_s(tmp_path, place, family):
    """Dropout and recomputation together: transformers recomputes in another mode than it computed in."""
    transformers = pytest.importorskip("transformers")
    base = new_family(family, tmp_path / "base")

    def fresh(recompute: bool = True) -> Trainer:
        model = adapted(load_model(base, place.hardware), base=str(base), lora_dropout=0.5)
        return Trainer(model, SFT, 6, EngineConfig(recompute=recompute, batch_tokens=40))

    whole, first, second = fresh(), fresh(), fresh()
    norms = [trainer.sft_step(ROWS)["grad_norm"] for trainer in (first, fresh(recompute=False))]
    assert norms[0] == pytest.approx(norms[1], rel=place.tolerance(1e-4))
    save_checkpoint(tmp_path / "last", first.model, TOKENIZER, first, weights=False)
    second.model.adapter.load(tmp_path / "last")
    second.load_state_dict(load_training(tmp_path / "last", place.device).trainer)
    whole.sft_step(ROWS)
    losses = [trainer.sft_step(ROWS)["loss"] for trainer in (second, whole)]
    ends = [[p.detach() for p in t.model.parameters() if p.requires_grad] for t in (second, whole)]
    assert place.repeated(*ends) and losses[0] == pytest.approx(losses[1], rel=place.tolerance(1e-6))

    second.model.adapter.save(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=place.dtype).to(place.device)
    beside = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    with torch.no_grad():
        (batch,) = second.model.batches(ROWS[:1], 100)
        ids = torch.tensor(ROWS[0].ids, device=place.device)
        expected = beside(ids[None]).logits[0].float().log_softmax(-1)[:-1].gather(-1, ids[1:, None])[:, 0]
        wanted = expected[torch.tensor(ROWS[0].trained[1:], device=place.device)]
        assert place.alike([second.model.statistics(batch)[0]], [wanted], 1e-4)


def test_dropout_is_for_supervised_steps_alone(model, place):
    trained(adapted(model, lora_dropout=0.5))
    said = logits(model)
    model.train()
    assert torch.equal(logits(model), said), "whatever the mode, nothing is dropped where no step is taken"

    def step(recompute: bool) -> dict[str, float]:
        return Trainer(model, SftConfig(lr=0.0), 1, EngineConfig(recompute=recompute)).sft_step(ROWS)

    dropped, again = step(recompute=False), step(recompute=True)
    assert again["grad_norm"] == pytest.approx(dropped["grad_norm"], rel=place.tolerance(1e-5))
    model.adapter._settings.lora_dropout = 0.0
    assert dropped["loss"] != pytest.approx(step(recompute=False)["loss"], rel=1e-3)


def test_the_reference_is_the_model_with_its_adapter_switched_off(model, place):
    """GRPO's figures are those beside a copy of the base; its first ratios are 1, dropout or not."""
    base = copy.deepcopy(model).requires_grad_(False)
    trained(adapted(model, lora_dropout=0.5))
    config = GrpoConfig(lr=0.0, kl=0.1, temperature=1.0)
    with torch.no_grad():
        ids = [torch.tensor(r.ids, device=place.device) for r in ROWS]
        said = [model.logits(model.packed(i, [len(i)])).log_softmax(-1)[:-1] for i in ids]
    rows = [
        type(r)(r.ids, r.trained, (0.0, *p.gather(-1, i[1:, None])[:, 0].tolist()), r.advantages)
        for r, i, p in zip(ROWS, ids, said, strict=True)
    ]
    switched = Trainer(model, config, 1, EngineConfig(recompute=True)).grpo_step(rows)
    beside = Trainer(model, config, 1, EngineConfig())
    beside._reference, model.adapter.off = base, lambda: torch.no_grad()
    copied = beside.grpo_step(rows)
    assert switched["kl"] > 1e-3 and switched["ratio"] == pytest.approx(1.0, abs=place.tolerance(1e-4))
    for name in ("kl", "loss", "grad_norm"):
        assert switched[name] == pytest.approx(copied[name], rel=place.tolerance(1e-4)), name


def test_a_target_that_the_model_lacks_is_named(model):
    for wrong in ("q_prj", "lm_head", "embed_tokens"):
        with pytest.raises(
            ConfigError, match=rf"targets=\[o_proj,{wrong}\].*no linear layer {wrong} .*has down_proj, "
        ):
            adapted(model, lora_targets=["o_proj", wrong])
