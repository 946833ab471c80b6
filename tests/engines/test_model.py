"""The decoder is each family's: the same numbers as Hugging Face's, with weights passed either way."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.config import EngineConfig, ModelConfig, SftConfig
from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.model import new_model
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Sampling
from tests.engines.conftest import SHAPE, lively, row, tokens

SIZES = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES = {
    "qwen3": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    "qwen3-untied": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": False}),
    "qwen2.5": ("Qwen2", {"tie_word_embeddings": True}),
    "llama2": ("Llama", {"tie_word_embeddings": False, "num_key_value_heads": 6}),
    "llama3.2": ("Llama", {"tie_word_embeddings": True, "head_dim": 8, "rope_parameters": LLAMA3}),
    "llama-bias": ("Llama", {"attention_bias": True, "tie_word_embeddings": False}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 8}),
}


@pytest.fixture(params=FAMILIES, scope="module")
def family(request, tmp_path_factory):
    """A small random model of a family as transformers makes it, and the folder that it is saved in."""
    transformers = pytest.importorskip("transformers")
    name, settings = FAMILIES[request.param]
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**SIZES | settings))
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if key.endswith(("bias", "norm.weight")):
                parameter.add_(0.3 * torch.randn(parameter.shape))
            elif "proj" in key:
                parameter.mul_(5)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.eval().save_pretrained(folder)
    return theirs, folder


def test_our_logits_are_those_of_transformers(family, place):
    theirs, folder = family
    ours = load_model(folder, place.hardware)
    ids = torch.tensor(tokens(200, vocab_size=61))
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0].to(place.device)
        found = ours.logits(ours.packed(ids.to(place.device), [200]))
    assert place.alike([found], [expected], 1e-5)


def test_what_we_save_transformers_opens(family, tmp_path, place):
    transformers = pytest.importorskip("transformers")
    theirs, folder = family
    load_model(folder, place.hardware).write(tmp_path)
    again, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and type(again) is type(theirs)
    ignored = ("dtype", "torch_dtype", "_name_or_path", "transformers_version")
    before, after = ({k: v for k, v in m.config.to_dict().items() if k not in ignored} for m in (theirs, again))
    assert before == after
    expected = dict(theirs.named_parameters())
    assert all(torch.equal(p, expected[name].to(p.dtype)) for name, p in again.named_parameters())


def test_a_shape_alone_is_enough_for_transformers(family, tmp_path, place):
    transformers = pytest.importorskip("transformers")
    theirs, folder = family
    ours = load_model(folder, place.hardware)
    ours.source = {}
    ours.write(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor(tokens(100, vocab_size=61))[None]
    with torch.no_grad():
        assert place.alike([again(ids).logits], [theirs(ids).logits], 1e-5)


def test_the_cache_continues_as_the_whole_does(family, place):
    ours = load_model(family[1], place.hardware)
    generator = TorchGenerator(ours, EngineConfig())
    prompt, greedy = tokens(20, vocab_size=61), Sampling(temperature=0.0, max_tokens=8)

    async def two_turns():
        generator.open(0)
        first = await generator.generate(0, prompt, greedy, seed=0)
        longer = [*prompt, *first.ids, *tokens(5, seed=2, vocab_size=61)]
        return longer, await generator.generate(0, longer, greedy, seed=0)

    longer, second = asyncio.run(two_turns())
    whole = place.tensor([*longer, *second.ids])
    with torch.no_grad():
        log_probs = ours.logits(ours.packed(whole, [len(whole)])).log_softmax(-1)
    said = log_probs[len(longer) - 1 : -1]
    if place.dtype is torch.float32:
        assert said.argmax(-1).tolist() == list(second.ids)
    found = said.gather(-1, place.tensor(second.ids)[:, None])[:, 0]
    assert torch.allclose(found, place.tensor(second.log_probs), atol=place.tolerance(1e-4) * 4)


def test_a_shared_prefix_trains_as_its_rows_alone(family, monkeypatch, place):
    rows = [row(40, seed) for seed in (1, 2, 3)]
    shared = [dataclasses.replace(r, ids=tuple(i % 61 for i in (*rows[0].ids[:25], *r.ids[25:]))) for r in rows]
    gradients = []
    for batch_tokens in (10_000, 1):  # in one micro-batch, and each row alone
        model = load_model(family[1], place.hardware)
        trainer = Trainer(model, SftConfig(lr=0.0, weight_decay=0.0), 1, EngineConfig(batch_tokens=batch_tokens))
        seen: dict[str, torch.Tensor] = {}
        monkeypatch.setattr(trainer._optimiser, "step", lambda lr, t=trainer, seen=seen: seen.update(grads(t)) or 0.0)
        trainer.sft_step(shared)
        gradients.append(seen)
    whole, alone = gradients
    assert place.alike(list(whole.values()), [alone[name] for name in whole], 1e-4, least=1e-2)


def grads(trainer):
    """By parameter: in bfloat16 they are gathered on float32 masters."""
    masters = (master for _, master in trainer._optimiser._pairs)
    return {name: m.grad.clone() for (name, _), m in zip(trainer.model.named_parameters(), masters, strict=True)}


@settings(max_examples=settings().max_examples // 7)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_packed_sequences_do_not_see_each_other(place, lengths):
    model = place.put(lively(new_model(SHAPE, seed=1)))
    sequences = [place.tensor(tokens(n, seed=i)) for i, n in enumerate(lengths)]
    with torch.no_grad():
        packed = model.packed(torch.cat(sequences), lengths).split(lengths)
        for sequence, found in zip(sequences, packed, strict=True):
            assert place.alike([found], [model.packed(sequence, [len(sequence)])], 1e-5, least=1.0)


def test_recomputing_activations_changes_no_gradient(model, place):
    ids = place.tensor(tokens(30))
    gradients = []
    for model.recompute in (False, True):
        model.zero_grad()
        model.packed(ids, [12, 18]).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert place.repeated(*gradients)


def test_gradients_are_those_of_hugging_face(tmp_path, model, place):
    transformers = pytest.importorskip("transformers")
    model.write(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).to(place.device)
    ids = place.tensor(tokens(40))
    probe = torch.randn(40, SHAPE.vocab_size, generator=torch.Generator().manual_seed(0)).to(place.device)
    (theirs(ids[None]).logits[0] * probe).sum().backward()
    (model.logits(model.packed(ids, [40])) * probe).sum().backward()
    expected = dict(theirs.named_parameters())
    names = [name for name, _ in model.named_parameters()]
    found = [parameter.grad for parameter in model.parameters()]
    assert place.alike(found, [expected[name].grad for name in names], 1e-4)


def test_a_seed_makes_a_model():
    first, again, other = (new_model(SHAPE, seed).model.embed_tokens.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_shape_from_the_settings_takes_the_tokenizers_vocabulary():
    shape = ModelShape.from_config(ModelConfig(name="tiny"), vocab_size=777)
    assert (shape.vocab_size, shape.layers, shape.width, shape.tied) == (777, 2, 128, True)
    assert ModelShape.from_hf(shape.to_hf()) == shape


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding_window"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias"),
    ],
)
def test_what_the_own_decoder_lacks_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        ModelShape.from_hf(SHAPE.to_hf() | change)
