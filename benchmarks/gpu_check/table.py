"""The README's status table: what was measured on cards, from the committed gpu_check files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.results import show

NOT_MEASURED = "not measured"
Record = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the table: the first record of `part` whose name begins with `record`, and how its figures read."""

    title: str
    part: str
    record: str
    tell: Callable[[Record], str]


def _figures(*names: str) -> Callable[[Record], str]:
    """Figures by name, each followed by its unit or name: "1,234 tokens/s, 0.41 MFU"."""
    return lambda figures: ", ".join(f"{show(figures[name])} {name}" for name in names if name in figures)


def _backend(figures: Record) -> str:
    slower = f", {show(figures['times the best'])} times the best" if figures.get("times the best") else ""
    return f"{figures['backend']}{slower}"


STEP = _figures("tokens/s", "MFU", "peak GiB")
DECODING = _figures("sessions", "tokens/s", "kernels a pass", "cache GiB")
FAMILY = _figures("SFT tokens/s", "decoding tokens/s", "sampler and trainer apart")
SCORES = _figures("tasks", "greedy pass@1", "pass@1")
LINES = (
    Line("bf16 matrix product", "card", "bf16 matrix product", _figures("TFLOP/s")),
    Line("device-to-device copy", "card", "device-to-device copy", _figures("TB/s")),
    Line("attention, continued turn, 0.6B", "attention", "continued turn, 0.6B", _backend),
    Line("attention, decode, 0.6B", "attention", "decode, 0.6B", _backend),
    Line("attention, decode after a shared prefix, 0.6B", "attention", "decode after a shared prefix, 0.6B", _backend),
    Line("attention, training branch, 0.6B", "attention", "training branch, 0.6B", _backend),
    Line("rollout of hardware=gpu_1 at 0.6B", "defaults", "a rollout's prompts", _figures("sessions", "peak GiB")),
    Line("relative error of logits beside transformers'", "correctness", "logits", _figures("float32", "bf16")),
    Line("tests/engines, float32", "correctness", "tests/engines in float32", _figures("passed", "skipped")),
    Line("tests/engines, bf16", "correctness", "tests/engines in bfloat16", _figures("passed", "skipped")),
    Line("smoke pipeline on real tasks", "correctness", "smoke pipeline", _figures("evaluations", "test pass@1")),
    Line("SFT step, Qwen3-0.6B shape", "steps", "SFT, 0.6B", STEP),
    Line("the same, transformers padded", "steps", "SFT, 0.6B, transformers", STEP),
    Line("GRPO step, Qwen3-0.6B shape", "steps", "GRPO, 0.6B", STEP),
    Line("the same, transformers padded", "steps", "GRPO, 0.6B, transformers", STEP),
    Line("SFT step, Qwen3-4B shape", "steps", "SFT, 4B", STEP),
    Line("the same, transformers padded", "steps", "SFT, 4B, transformers", STEP),
    Line("LoRA SFT step, Qwen3-4B shape", "lora", "LoRA SFT, 4B", STEP),
    Line("LoRA GRPO step, Qwen3-4B shape", "lora", "LoRA GRPO, 4B", STEP),
    Line("decoding, Qwen3-0.6B shape", "decoding", "decoding, 0.6B", DECODING),
    Line("the same, transformers' generate", "decoding", "decoding, 0.6B, transformers", DECODING),
    Line("the same sessions after a shared prefix", "decoding", "decoding after a shared prefix, 0.6B", DECODING),
    Line("decoding, Qwen3-4B shape", "decoding", "decoding, 4B", DECODING),
    Line("the same, transformers' generate", "decoding", "decoding, 4B, transformers", DECODING),
    Line("the same sessions after a shared prefix", "decoding", "decoding after a shared prefix, 4B", DECODING),
    Line("small dense Qwen3, own decoder", "families", "dense Qwen3, own decoder", FAMILY),
    Line("the same by transformers, engine.backbone=transformers", "families", "dense Qwen3, transformers", FAMILY),
    Line("small Qwen3.5", "families", "Qwen3.5, transformers", FAMILY),
    Line("small Gemma 3", "families", "Gemma 3, transformers", FAMILY),
    Line("small Qwen3-MoE", "families", "Qwen3-MoE, transformers", FAMILY),
    Line("SmolLM2's SFT on telecom train", "smollm", "SFT", _figures("tokens/s", "loss")),
    Line("the same, evaluated", "smollm", "after SFT", SCORES),
    Line("SmolLM2's GRPO on telecom train", "smollm", "GRPO", _figures("steps with signal", "tokens/s")),
    Line("the same, evaluated", "smollm", "after GRPO", SCORES),
)


def table(folder: Path) -> str:
    """Markdown: a column for each card, from its newest file in `folder`; without files every cell says so."""
    newest = _newest(folder)
    if not newest:
        rows = [f"| {line.title} | {NOT_MEASURED} |" for line in LINES]
        return "\n".join(["| on a GPU | figure |", "|---|---|", *rows])
    heads = [f"{data['card']}, {data['commit']}, {data['date'][:10]}" for data in newest]
    rows = [f"| {line.title} | {' | '.join(_cell(line, data) for data in newest)} |" for line in LINES]
    return "\n".join([f"| on a GPU | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|", *rows])


def status(folder: Path) -> str:
    """The README's one line of all that: each card with its date, commit, and steps at 0.6B."""
    steps = [line for line in LINES if line.title in ("SFT step, Qwen3-0.6B shape", "GRPO step, Qwen3-0.6B shape")]
    told = [
        f"{data['card']}, {data['date'][:10]}, commit {data['commit']}: "
        + "; ".join(f"{line.title}: {_cell(line, data)}" for line in steps)
        for data in _newest(folder)
    ]
    return ". ".join(told) or f"{NOT_MEASURED}: no GPU has been at hand"


def _newest(folder: Path) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("gpu_check-*.json"):
        data = json.loads(path.read_text())
        if data["tiny"] or data["device"] == "cpu":  # these prove the check, and say nothing of a card
            continue
        if data["date"] >= found.get(data["card"], data)["date"]:
            found[data["card"]] = data
    return [found[card] for card in sorted(found)]


def _cell(line: Line, data: dict[str, Any]) -> str:
    part = data["parts"].get(line.part)
    if part is None:
        return NOT_MEASURED
    records = list(_matching(line, part["records"]))
    for record in records:
        if record.get("failed"):
            return f"failed: {record['failed']}".replace("|", "\\|")
        if not record["figures"].get("out of memory"):
            return line.tell(record["figures"])
    if records:
        return "out of memory"
    return NOT_MEASURED if part["status"] == "done" else f"{NOT_MEASURED}: {part['reason'] or part['status']}"


def _matching(line: Line, records: list[Record]) -> Iterator[Record]:
    """The records of a line; the engine's own names those of transformers, which begin alike, no line of its own."""
    theirs = "transformers" in line.record
    for record in records:
        if record["name"].startswith(line.record) and ("transformers" in record["name"]) is theirs:
            yield record
