"""A step's numbers, against formulas written out the slow way; and training that goes on where it stopped."""

from __future__ import annotations

import asyncio
import math

import pytest
import torch

from tau2_exp.config import EngineConfig, GrpoConfig, OutOfMemory, Schedule, SftConfig
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.kernels import token_statistics
from tau2_exp.engines.torch.losses import Objective, policy_loss
from tau2_exp.engines.torch.model import CausalLM, new_model
from tau2_exp.engines.torch.optimiser import BAD_STEPS, Optimiser, learning_rate
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Row, Sampling
from tests.engines.conftest import SHAPE, lively, row, tokens, twin

ROWS = [row(n, seed=n) for n in (20, 9, 31, 14, 26)]


def naive_statistics(model: CausalLM, row: Row, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy at every place of one row; place i tells of token i + 1."""
    ids = torch.tensor(row.ids, device=model.device)
    log_p = (model.logits(model.packed(ids, [len(ids)])).float() / temperature).log_softmax(-1)[:-1]
    return log_p.gather(-1, ids[1:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def test_a_lack_of_memory_names_the_mend(model, monkeypatch):
    """A real one: more than any machine has."""
    for config in (SftConfig(), GrpoConfig(kl=0.0)):
        trainer = Trainer(model, config, 1, EngineConfig())
        step = trainer.sft_step if isinstance(config, SftConfig) else trainer.grpo_step
        with (
            monkeypatch.context() as patch,
            pytest.raises(OutOfMemory, match=r"^out of memory while training \(.*\): "),
        ):
            patch.setattr(CausalLM, "packed", lambda *_: torch.empty(1 << 50))
            step([row(20, 0)])


def naive_grpo(model: CausalLM, reference: CausalLM | None, rows: list[Row], c: GrpoConfig) -> torch.Tensor:
    """The objective token by token, as one would write it on paper."""
    terms = []
    for r in rows:
        log_probs, entropies = naive_statistics(model, r, c.temperature)
        ref = naive_statistics(reference, r, c.temperature)[0].detach() if reference else None
        for i in range(1, len(r.ids)):
            if not r.trained[i]:
                continue
            log_prob, advantage = log_probs[i - 1], r.advantages[i]
            ratio = torch.exp(log_prob - r.log_probs[i])
            if c.tis_clip is not None:
                term = -min(float(ratio), c.tis_clip) * advantage * log_prob
            else:
                clipped = min(max(float(ratio), 1 - c.clip_low), 1 + c.clip_high)
                bound = clipped if float(ratio) != clipped else ratio
                term = -min(ratio * advantage, bound * advantage, key=float)
            term = term - c.entropy * entropies[i - 1]
            if ref is not None:
                d = ref[i - 1] - log_prob
                term = term + c.kl * (torch.exp(d) - d - 1)
            terms.append(term)
    return torch.stack(terms).mean()


class Recorder(Optimiser):
    """Keeps the gradient instead of taking the step."""

    def step(self, lr: float) -> float:
        self.gradients = [master.grad.clone() for _, master in self._pairs]
        self._adam.zero_grad()
        return 0.0


def recorded(trainer: Trainer) -> Trainer:
    trainer._optimiser.__class__ = Recorder  # a second optimiser would find the gradients taken in bfloat16
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"kl": 0.0, "entropy": 0.0},
        {"kl": 0.1, "entropy": 0.0},
        {"kl": 0.1, "entropy": 0.05, "temperature": 1.0},
        {"kl": 0.0, "entropy": 0.01, "tis_clip": 1.5},
    ],
)
@pytest.mark.parametrize("batch_tokens", [40, 1000])
def test_the_grpo_gradient_is_that_of_the_formula(model, place, settings, batch_tokens):
    config = GrpoConfig(**settings)
    reference = place.put(lively(new_model(SHAPE, seed=4))) if config.kl else None
    exact = twin(model)
    loss = naive_grpo(exact, twin(reference) if reference else None, ROWS, config)
    expected = torch.autograd.grad(loss, list(exact.parameters()))
    trainer = recorded(Trainer(model, config, 10, EngineConfig(batch_tokens=batch_tokens), reference))
    metrics = trainer.grpo_step(ROWS)
    assert place.alike(trainer._optimiser.gradients, expected, 1e-4, least=1e-3)
    if config.tis_clip is None:
        assert metrics["loss"] == pytest.approx(loss.item(), rel=place.tolerance(1e-4))


@pytest.mark.parametrize("batch_tokens", [40, 1000])
def test_the_sft_loss_is_the_mean_over_all_trained_tokens(model, place, batch_tokens):
    rows = [Row(r.ids, r.trained, r.log_probs, tuple(map(float, r.trained))) for r in ROWS]
    exact = twin(model)
    log_probs = [naive_statistics(exact, r, 1.0)[0][place.tensor(r.trained[1:])] for r in rows]
    loss = -torch.cat(log_probs).mean()
    expected = torch.autograd.grad(loss, list(exact.parameters()))
    trainer = recorded(Trainer(model, SftConfig(), 10, EngineConfig(batch_tokens=batch_tokens)))
    metrics = trainer.sft_step(rows)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=place.tolerance(1e-5))
    assert metrics["trained_tokens"] == sum(sum(r.trained) for r in rows)
    assert metrics["tokens_per_second"] == pytest.approx(sum(len(r.ids) for r in rows) / metrics["seconds"])
    assert place.alike(trainer._optimiser.gradients, expected, 1e-4)


def test_the_statistics_head_is_differentiated_rightly(monkeypatch, place):
    monkeypatch.setattr("tau2_exp.engines.torch.kernels.CHUNK_BYTES", {place.device.type: 4 * 13 * 3})
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 5, generator=generator).to(place.device).requires_grad_() for n in (8, 13))
    targets = torch.randint(0, 13, (8,), generator=generator).to(place.device)
    probe = torch.randn(2, 8, generator=generator).to(place.device)
    found = token_statistics(hidden, head, targets, 0.7, entropy=True)
    log_p = (hidden @ head.T / 0.7).log_softmax(-1)
    wanted = (log_p.gather(-1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1))
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    gradients = [
        torch.autograd.grad(sum((p * x).sum() for p, x in zip(probe, pair, strict=True)), (hidden, head))
        for pair in (found, wanted)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "learns"),
    [
        (1.5, 1.0, False),  # already more likely than 1 + clip_high allows
        (1.25, 1.0, True),  # within the wider upper bound
        (0.5, 1.0, True),  # good and too rare: always pulled back up
        (0.5, -1.0, False),  # already rarer than 1 − clip_low allows
        (1.5, -1.0, True),
    ],
)
def test_clipping_stops_the_gradient_on_its_own_side_alone(ratio, advantage, learns):
    log_prob = torch.tensor([math.log(ratio)], requires_grad=True)
    zero = torch.zeros(1)
    result = policy_loss(log_prob, zero, torch.tensor([advantage]), zero, None, Objective(0.2, 0.28))
    result.loss.backward()
    assert bool(log_prob.grad.abs() > 0) is learns
    assert result.clipped.item() == (not learns)


def test_training_sees_the_log_probabilities_that_were_sampled(model, place):
    generator = TorchGenerator(model, EngineConfig())
    sampling = Sampling(temperature=0.7, max_tokens=20)

    async def speak() -> list[Row]:
        rows = []
        for number in range(4):
            generator.open(number)
            context, ids, trained, log_probs = tokens(5, number), [], [], []
            for turn in range(3):
                ids, trained, log_probs = ids + context, trained + [False] * 5, log_probs + [0.0] * 5
                answer = await generator.generate(number, ids, sampling, 10 * number + turn)
                ids, log_probs = ids + list(answer.ids), log_probs + list(answer.log_probs)
                trained = trained + [True] * len(answer.ids)
            generator.close(number)
            rows.append(Row(tuple(ids), tuple(trained), tuple(log_probs), (1.0,) * len(ids)))
        return rows

    for spoken in asyncio.run(speak()):
        found = naive_statistics(model, spoken, 0.7)[0]
        for i, flag in enumerate(spoken.trained):
            assert not flag or spoken.log_probs[i] == pytest.approx(found[i - 1].item(), abs=place.tolerance(1e-4))
    metrics = Trainer(model, GrpoConfig(kl=0, lr=0.0), 1, EngineConfig()).grpo_step(asyncio.run(speak()))
    assert metrics["ratio"] == pytest.approx(1.0, abs=place.tolerance(1e-4))
    assert metrics["drift"] == pytest.approx(0.0, abs=place.tolerance(1e-6))
    assert metrics["clip_fraction"] == 0


def test_good_tokens_become_likelier_and_bad_ones_rarer(model, place):
    before = [naive_statistics(model, r, 1.0)[0].detach() for r in ROWS]
    rows = [
        Row(r.ids, r.trained, (0.0, *b.tolist()), tuple(1.0 if i % 2 else -1.0 for i in range(len(r.ids))))
        for r, b in zip(ROWS, before, strict=True)
    ]
    lr = 3e-4 if place.dtype is torch.float32 else 3e-3  # bfloat16 weights do not move by less than their rounding
    config = GrpoConfig(kl=0.0, entropy=0.0, lr=lr, temperature=1.0, updates_per_step=2)
    Trainer(model, config, 1, EngineConfig()).grpo_step(rows)
    moved = [naive_statistics(model, r, 1.0)[0].detach() - b for r, b in zip(rows, before, strict=True)]
    gain = sum(
        (m * place.tensor(r.advantages[1:]) * place.tensor(r.trained[1:])).sum()
        for m, r in zip(moved, rows, strict=True)
    )
    assert gain > 0


def test_nothing_to_train_on_is_said(model):
    trainer = Trainer(model, SftConfig(), 1, EngineConfig())
    with pytest.raises(ValueError, match="no token"):
        trainer.sft_step([Row((1, 2), (False, False), (0.0, 0.0), (0.0, 0.0))])
    with pytest.raises(ValueError, match="reference"):
        Trainer(model, GrpoConfig(kl=0.1), 1, EngineConfig())


def test_the_schedules():
    def rates(**settings) -> list[float]:
        config = SftConfig(lr=1.0, **settings)
        return [round(learning_rate(step, 10, config), 3) for step in range(10)]

    assert rates(schedule=Schedule.constant, warmup=0.2) == [0.5] + [1.0] * 9
    assert rates(schedule=Schedule.linear, warmup=0.0) == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    cosine = rates(schedule=Schedule.cosine, warmup=0.3)
    assert cosine[:4] == [0.333, 0.667, 1.0, 1.0]
    assert cosine[3:] == sorted(cosine[3:], reverse=True) and cosine[-1] > 0


def test_bfloat16_weights_keep_small_steps_in_their_masters(place):
    model = new_model(SHAPE, seed=0).to(place.device, torch.bfloat16)
    rows = [Row(r.ids, r.trained, r.log_probs, (1.0,) * len(r.ids)) for r in ROWS]
    trainer = Trainer(model, SftConfig(lr=1e-5, schedule=Schedule.constant, warmup=0.0), 100, EngineConfig())
    before = model.model.embed_tokens.weight.detach().float().clone()
    masters = dict(
        zip((n for n, _ in model.named_parameters()), (m for _, m in trainer._optimiser._pairs), strict=True)
    )
    losses = [trainer.sft_step(rows)["loss"] for _ in range(3)]
    assert all(map(math.isfinite, losses))
    master = masters["model.embed_tokens.weight"]
    assert 0 < (master - before).abs().max() < 1e-4
    assert torch.equal(master.to(torch.bfloat16), model.model.embed_tokens.weight)


def test_a_gradient_that_is_not_finite_changes_nothing(model):
    trainer = Trainer(model, SftConfig(), 5, EngineConfig())
    before = [p.detach().clone() for p in model.parameters()]
    bad = Row((1, 2, 3), (False, True, True), (0.0,) * 3, (0.0, math.inf, 1.0))
    for _ in range(BAD_STEPS - 1):
        assert not math.isfinite(trainer.sft_step([bad])["grad_norm"])
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(RuntimeError, match="not finite in 5 updates in a row"):
        trainer.sft_step([bad])
