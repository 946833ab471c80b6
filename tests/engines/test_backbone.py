"""Models that only transformers computes train, sample and are saved like the own decoder's, with its own numbers."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest
import torch
from patience import PATIENCE

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Backbone, ConfigError, EngineConfig, GrpoConfig, SftConfig
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.engines.torch.checkpoint import load_model, load_training, save_checkpoint
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.tokenizer import train_tokenizer
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.runs.address import content_address
from tau2_exp.types import Row, Sampling
from tests.engines.conftest import row, tokens
from tests.engines.families import FAMILIES, new_family
from tests.engines.test_generation import STOP, play
from tests.engines.test_model import SIZES

transformers = pytest.importorskip("transformers")
ROWS = [row(n, seed=n) for n in (20, 9, 31, 14)]


@pytest.fixture(params=FAMILIES, scope="module")
def folder(request, tmp_path_factory):
    return new_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def model(folder, place) -> LanguageModel:
    return load_model(folder, place.hardware)


def whole(folder, place, ids, temperature=1.0):
    """Log-probabilities [len(ids), vocab] of the sequence as transformers computes it in one pass."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=place.dtype).to(place.device)
    with torch.no_grad():
        return theirs(place.tensor(ids)[None]).logits[0].float().div(temperature).log_softmax(-1)


def test_sampler_trainer_and_one_pass_say_the_same(folder, model, place):
    sampling = Sampling(temperature=0.7, max_tokens=12, stop_ids=STOP)
    dialogues = play(TorchGenerator(model, EngineConfig()), sampling, count=5)
    rows = []
    for dialogue in dialogues:
        for (ids, _), answer in zip(dialogue.asked, dialogue.answers, strict=True):
            flags = (*(False for _ in ids), *(True for _ in answer.ids))
            said = (*(0.0 for _ in ids), *answer.log_probs)
            rows.append(Row((*ids, *answer.ids), flags, said, said))
    with torch.no_grad():
        for batch in model.batches(rows, 200):
            assert torch.allclose(model.statistics(batch, 0.7)[0], batch.log_probs, atol=place.tolerance(1e-4))
    for sampled in rows[:: len(rows) // 3]:
        start = sampled.trained.index(True)
        log_p = whole(folder, place, sampled.ids, temperature=0.7)[start - 1 : -1]
        found = log_p.gather(-1, place.tensor(sampled.ids[start:])[:, None])[:, 0]
        assert torch.allclose(found, place.tensor(sampled.log_probs[start:]), atol=place.tolerance(1e-4))
    again = play(TorchGenerator(model, EngineConfig()), sampling, count=5, shuffled=1)
    if place.device.type == "cpu":
        assert [d.answers for d in again] == [d.answers for d in dialogues]


def test_a_context_that_goes_another_way_is_read_again(model, place):
    """An attention's cache is cut where the contexts part; a recurrent state cannot be, and nothing is shared."""
    generator, alone = (TorchGenerator(model, EngineConfig(lockstep=False)) for _ in range(2))
    first, greedy = tokens(50), Sampling(temperature=0.0, max_tokens=4)
    other = [*first[:40], *tokens(6, seed=9)]

    async def sample():
        generator.open(0)
        generator.open(1)
        alone.open(0)
        await generator.generate(0, first, greedy, 0)
        shared = generator.begin(1, other)
        parted = [await generator.generate(session, other, greedy, 0) for session in (0, 1)]
        return shared, parted, await alone.generate(0, other, greedy, 0)

    shared, parted, expected = asyncio.run(sample())
    kind = model.config["model_type"]
    assert shared == (0 if kind == "qwen3_5_text" else 40)
    for answer in parted:
        assert answer.log_probs == pytest.approx(expected.log_probs, abs=place.tolerance(1e-4))


def test_sessions_wait_for_room_and_get_it(model):
    """One fits at a time; that it stays open keeps nobody waiting for good."""
    generator = TorchGenerator(model, EngineConfig(lockstep=False, cache_gib=1e-9))

    async def sample():
        for session in range(3):
            generator.open(session)
        asked = (generator.generate(n, tokens(5, n), Sampling(max_tokens=2), n) for n in range(3))
        return await asyncio.gather(*asked), len(generator._rows)

    answers, rows = asyncio.run(asyncio.wait_for(sample(), PATIENCE))
    assert [len(answer.ids) for answer in answers] == [2, 2, 2] and rows == 1


def gradients(model: LanguageModel, config, engine: EngineConfig) -> list[torch.Tensor]:
    trainer = Trainer(model, config, 1, engine, copy.deepcopy(model).requires_grad_(False))
    found: list[torch.Tensor] = []

    def keep(_lr: float) -> float:
        found.extend(torch.zeros(1) if m.grad is None else m.grad.clone() for _, m in trainer._optimiser._pairs)
        return 0.0

    trainer._optimiser.step = keep
    (trainer.sft_step if isinstance(config, SftConfig) else trainer.grpo_step)(ROWS)
    return found


@pytest.mark.parametrize("config", [SftConfig(), GrpoConfig(kl=0.1, entropy=0.01)], ids=["sft", "grpo"])
def test_padding_and_recomputing_change_no_gradient(folder, place, config):
    alone, padded, recomputed = (
        gradients(load_model(folder, place.hardware), config, EngineConfig(batch_tokens=size, recompute=recompute))
        for size, recompute in ((1, False), (80, False), (80, True))
    )
    assert any(g.abs().max() > 1e-3 for g in alone)
    assert place.alike(padded, alone, 1e-3, least=1e-2)
    assert place.alike(recomputed, padded, 1e-4, least=1e-2)


def test_a_resumed_run_ends_with_the_same_weights_and_its_folder_opens(folder, tmp_path, place):
    def make(path) -> Trainer:
        reference = load_model(folder, place.hardware).requires_grad_(False)
        config = GrpoConfig(lr=1e-3, warmup=0.5, kl=0.1)
        return Trainer(load_model(path, place.hardware), config, 4, EngineConfig(), reference)

    def train(trainer: Trainer, steps) -> list[torch.Tensor]:
        for step in steps:
            trainer.grpo_step([row(n, seed=100 * step + n) for n in (12, 25, 18)])
        return [p.detach().clone() for p in trainer.model.parameters()]

    last = tmp_path / "last"
    expected = train(make(folder), range(4))
    first = make(folder)
    train(first, range(2))
    save_checkpoint(last, first.model, train_tokenizer(["hello\n"], 300, ["<|im_end|>"]), first)
    second = make(last)
    second.load_state_dict(load_training(last, place.device).trainer)
    assert place.repeated(train(second, range(2, 4)), expected)

    source, kept = (json.loads((path / "config.json").read_text()) for path in (folder, last))
    assert kept["of_the_source"] == [1, 2] and kept["eos_token_id"] == source["eos_token_id"]
    ids = tokens(30)
    with torch.no_grad():
        batch = next(iter(first.model.batches([Row(tuple(ids), (False, *[True] * 29), (0.0,) * 30, (0.0,) * 30)], 99)))
        found = first.model.statistics(batch)[0]
    wanted = whole(last, place, ids)[:-1].gather(-1, place.tensor(ids[1:])[:, None])[:, 0]
    assert torch.allclose(found, wanted, atol=place.tolerance(1e-4))


def test_auto_is_part_of_a_run_only_where_it_is_not_the_own_decoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_family("gemma3", tmp_path / "gemma3")
    torch.manual_seed(0)
    sizes = SIZES | {"max_position_embeddings": 8192}  # as model=hf has it
    dense = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    dense.save_pretrained("dense")
    windowed = transformers.MistralConfig(**sizes | {"sliding_window": 64})
    transformers.MistralForCausalLM(windowed).save_pretrained("windowed")

    for path in ("gemma3", "dense", "windowed"):
        (tmp_path / path / "tokenizer.json").touch()

    def composed(path, *more):
        return compose_config(["stage=eval", "model=hf", f"model.path={path}", *more])

    auto = composed("dense")
    own, theirs = (composed("dense", f"engine.backbone={backbone}") for backbone in ("own", "transformers"))
    assert auto.engine.backbone is Backbone.auto
    addresses = [content_address(config, None) for config in (auto, own, theirs)]
    assert addresses[0] == addresses[1] != addresses[2]
    for path in ("gemma3", "windowed"):
        auto, theirs = composed(path), composed(path, "engine.backbone=transformers")
        assert auto == theirs and auto.engine.backbone is Backbone.transformers
        with pytest.raises(ConfigError, match="the own decoder lacks; remove"):
            composed(path, "engine.backbone=own")


def test_a_dense_model_is_the_same_on_either_backbone(tmp_path, place):
    """The same weights sampled by the one are to the other as its own."""
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES | {"vocab_size": 97})).save_pretrained(tmp_path)
    found = []
    for backbone in (Backbone.own, Backbone.transformers):
        model = load_model(tmp_path, place.hardware, backbone)
        with torch.no_grad():
            for batch in model.batches(ROWS, 1):
                found.append(model.statistics(batch, 0.7, entropy=True))
    by_length = sorted(found[: len(ROWS)], key=lambda pair: len(pair[0]))
    for one, two in zip(by_length, sorted(found[len(ROWS) :], key=lambda pair: len(pair[0])), strict=True):
        assert place.alike(one, two, 1e-4, least=1.0)
