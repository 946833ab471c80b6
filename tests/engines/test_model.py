"""The decoder is Qwen3: the same numbers as Hugging Face's, with weights passed either way."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.config import ModelConfig
from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.model import ModelShape, new_model
from tests.engines.conftest import SHAPE, lively, tokens


@pytest.mark.parametrize("tied", [True, False])
def test_hugging_face_opens_our_weights_and_says_the_same(tmp_path, place, tied):
    transformers = pytest.importorskip("transformers")
    from tau2_exp.engines.torch.checkpoint import _write_model

    ours = place.put(lively(new_model(dataclasses.replace(SHAPE, tied=tied, rope_base=5e5), seed=3)))
    _write_model(tmp_path, ours)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    theirs, ids = theirs.to(place.device), place.tensor(tokens(50))
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
        found = ours.logits(ours.packed(ids, [50]))
    assert place.alike([found], [expected], 1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_we_open_hugging_faces_weights_and_say_the_same(tmp_path, place, tied):
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3, head_dim=8, tie_word_embeddings=tied, max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.Qwen3ForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path, place.hardware)
    theirs, ids = theirs.to(place.device), place.tensor(tokens(40, vocab_size=61))
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
        found = ours.logits(ours.packed(ids, [40]))
    assert place.alike([found], [expected], 1e-5, least=1.0)


@settings(max_examples=15, deadline=None)
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
    from tau2_exp.engines.torch.checkpoint import _write_model

    _write_model(tmp_path, model)
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
        ({"model_type": "llama"}, "llama"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"attention_bias": True}, "attention_bias"),
    ],
)
def test_what_is_no_dense_qwen3_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        ModelShape.from_hf(SHAPE.to_hf() | change)
