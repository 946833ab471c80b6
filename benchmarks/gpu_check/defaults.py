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
        "recompute": config.engine.recomputes("cuda"),
        "batch_tokens": config.engine.batch_tokens,
        "cache KiB a token": bytes_a_token / 2**10,
        PROMPT: size.prefix,
        "cache GiB of all episodes at their longest": bytes_a_token
        * config.rollout.concurrency
        * model.context
        / 2**30,
    }


def _rollout(config: Config, size: Sizes, settings: Settings) -> Figures:
    """All sessions read the prompt of their domain and what their customer says, and say one token."""
    shape = size.shapes["0.6B"]
    count = 8 if settings.tiny else config.rollout.concurrency
    model = random_model(shape, settings.device)
    contexts = prompts(count, size.prefix + size.heard, shape.vocab_size)
    contexts = [contexts[0][: size.prefix] + context[size.prefix :] for context in contexts]
    reset_peak(settings.device)
    sessions = Sessions(model, contexts, config.engine, config.model.context)
    sessions.advance(1)
    return {
        "sessions": count,
        PROMPT: size.prefix,
        "tokens computed": sessions.generator.computed,
        "cache GiB": sessions.generator.cache_bytes / 2**30,
        "peak GiB": peak_gib(settings.device),
    }
