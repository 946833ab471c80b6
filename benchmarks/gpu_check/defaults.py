"""What hardware=gpu_1 starts with as it is shipped, at 0.6B: does its rollout fit on the card?"""

from __future__ import annotations

from engine import random_model

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.clock import peak_gib, reset_peak
from benchmarks.gpu_check.report import Figures, Report
from benchmarks.gpu_check.sessions import Sessions, prompts
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.sizes import Sizes
from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Config

PROMPT = "tokens of a telecom prompt"


def run(settings: Settings, report: Report) -> None:
    size = sizes.TINY if settings.tiny else sizes.FULL
    config = compose_config(["stage=grpo", "model=qwen3_0_6b", "hardware=gpu_1"])
    report.record("the settings", _settings(config, size))
    report.attempt("a rollout's prompts", lambda: _rollout(config, size, settings))


def _settings(config: Config, size: Sizes) -> Figures:
    model = config.model
    bytes_a_token = 2 * 2 * model.layers * model.kv_heads * model.head_dim  # keys and values in bf16
    return {
        "sessions": config.rollout.concurrency,
        "recompute": config.engine.recompute,
        "batch_tokens": config.engine.batch_tokens,
        "cache KiB a token": bytes_a_token / 2**10,
        PROMPT: size.prefix,
        "cache GiB of the prompts": bytes_a_token * config.rollout.concurrency * size.prefix / 2**30,
    }


def _rollout(config: Config, size: Sizes, settings: Settings) -> Figures:
    """All sessions read their prompt and say one token."""
    shape = size.shapes["0.6B"]
    count = 8 if settings.tiny else config.rollout.concurrency
    model = random_model(shape, settings.device)
    reset_peak(settings.device)
    sessions = Sessions(model, prompts(count, size.prefix, shape.vocab_size), config.engine)
    sessions.advance(1)
    return {
        "sessions": count,
        PROMPT: size.prefix,
        "cache GiB": sessions.generator.cache_bytes / 2**30,
        "peak GiB": peak_gib(settings.device),
    }
