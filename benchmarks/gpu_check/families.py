"""The families that only transformers computes, with random weights: their numbers, and their cost beside the own."""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from engine import cost, dialogue_rows, hardware

from benchmarks.gpu_check.clock import peak_gib, reset_peak, wall
from benchmarks.gpu_check.report import Figures, Report
from benchmarks.gpu_check.sessions import prompts
from benchmarks.gpu_check.settings import Settings
from tau2_exp.config import Backbone, EngineConfig, SftConfig
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.types import Generation, Row, Sampling

EXACT = {"cpu": 1e-3, "cuda": 0.1}  # the mean difference allowed of log-probabilities: float32, and bfloat16
HYBRID = {"layer_types": ["linear_attention"] * 3 + ["full_attention"]}
WINDOWS = {"sliding_window": 64, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
FAMILIES = (  # what a record is called, the model, its config, what makes it, and by which backbone
    ("dense Qwen3", "Qwen3", "Qwen3", {}, Backbone.own),
    ("dense Qwen3", "Qwen3", "Qwen3", {}, Backbone.transformers),
    ("Qwen3.5", "Qwen3_5", "Qwen3_5Text", HYBRID, Backbone.auto),
    ("Gemma 3", "Gemma3", "Gemma3Text", WINDOWS, Backbone.auto),
    ("Qwen3-MoE", "Qwen3Moe", "Qwen3Moe", EXPERTS, Backbone.auto),
)


@dataclass(frozen=True)
class FamilySizes:
    """The sizes that all families share, as config.json names them, and how much they are given; tokens."""

    shape: dict[str, Any]
    sessions: int
    context: int
    decoded: int
    rows: int
    row: int


HEADS = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 16384}
SMALL = {"vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128}
LEAST = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
FULL = FamilySizes(SMALL | HEADS, sessions=32, context=2048, decoded=32, rows=8, row=2048)
TINY = FamilySizes(LEAST | HEADS, sessions=4, context=48, decoded=6, rows=3, row=96)


def run(settings: Settings, report: Report) -> None:
    if importlib.util.find_spec("transformers") is None:
        report.skip("transformers is not installed here")
        return
    size = TINY if settings.tiny else FULL
    for name, model, config, settings_of, backbone in FAMILIES:
        title = f"{name}, {'transformers' if backbone is not Backbone.own else 'own decoder'}"
        made = partial(_made, model, config, size.shape | settings_of, settings.device, backbone)
        report.attempt(title, partial(_figures, made, size, settings.device))


def _made(model: str, config: str, sizes: dict[str, Any], device: str, backbone: Backbone) -> LanguageModel:
    """A model with random weights, as a checkpoint of its family is loaded."""
    import transformers

    torch.manual_seed(0)
    shape = getattr(transformers, f"{config}Config")(**sizes, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        getattr(transformers, f"{model}ForCausalLM")(shape).save_pretrained(folder)
        return load_model(Path(folder), hardware(device), backbone)


def _figures(made: partial[LanguageModel], size: FamilySizes, device: str) -> Figures:
    """Tokens/s of decoding and of an SFT step, and how far sampler and trainer are apart.

    Raises AssertionError where that is more than their numbers allow.
    """
    reset_peak(device)
    model = made()
    contexts = prompts(size.sessions, size.context, model.vocab_size)
    _sampled(model, contexts[:2], 2)
    prefill = wall(lambda: _sampled(model, contexts, 1), device)
    answers: list[Generation] = []
    seconds = (wall(lambda: answers.extend(_sampled(model, contexts, size.decoded + 1)), device) - prefill) / 1e3
    apart = _apart(model, contexts, answers)
    if not apart <= EXACT[torch.device(device).type]:
        raise AssertionError(f"log-probabilities of the sampler and the trainer differ by {apart:.3g} in the mean")
    rows = dialogue_rows(size.rows, size.row // 2, size.row, model.vocab_size)
    trainer = Trainer(model, SftConfig(), 100, EngineConfig())
    step = cost(lambda: trainer.sft_step(rows), device, repeats=2)
    return {
        "decoding tokens/s": size.sessions * size.decoded / seconds,
        "prefill tokens/s": 1e3 * size.sessions * size.context / prefill,
        "SFT tokens/s": sum(len(row.ids) for row in rows) / step,
        "sampler and trainer apart": apart,
        "peak GiB": peak_gib(device),
    }


def _sampled(model: LanguageModel, contexts: list[list[int]], count: int) -> list[Generation]:
    generator, sampling = TorchGenerator(model, EngineConfig(lockstep=False)), Sampling(max_tokens=count)

    async def all_of_them() -> list[Generation]:
        for session in range(len(contexts)):
            generator.open(session)
        asked = (generator.generate(session, ids, sampling, session) for session, ids in enumerate(contexts))
        return await asyncio.gather(*asked)

    return asyncio.run(all_of_them())


@torch.no_grad()
def _apart(model: LanguageModel, contexts: list[list[int]], answers: list[Generation]) -> float:
    """The mean absolute difference of the sampled tokens' log-probabilities in the sampler and in the trainer."""
    rows = [
        Row(
            (*ids, *answer.ids),
            (False,) * len(ids) + (True,) * len(answer.ids),
            (0.0,) * len(ids) + tuple(answer.log_probs),
            (0.0,) * (len(ids) + len(answer.ids)),
        )
        for ids, answer in zip(contexts, answers, strict=True)
    ]
    differences = [
        (model.statistics(batch)[0] - batch.log_probs).abs()
        for batch in model.batches(rows, EngineConfig().batch_tokens)
    ]
    return float(torch.cat(differences).mean())
