"""Checkpoints as Megatron's lie on disk: a tracker file, and a folder an iteration with weights and no tokenizer."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from safetensors import numpy

TRACKER = "latest_checkpointed_iteration.txt"
SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "num_query_groups": "num_key_value_heads",
    "vocab_size": "vocab_size",
}


def check_sizes(args: Namespace, model: Path) -> None:
    """As slime does: what the flags say of the model is what the model is."""
    config = json.loads((model / "config.json").read_text())
    for flag, name in SIZES.items():
        if getattr(args, flag) != config[name]:
            raise SystemExit(f"--{flag}: {getattr(args, flag)}, and {model} has {config[name]}")


def save(folder: Path, iteration: str, weights: dict[str, Any]) -> None:
    """`weights` are arrays; the tracker names the iteration last."""
    path = folder / iteration
    path.mkdir(parents=True, exist_ok=True)
    numpy.save_file(weights, path / "weights")
    tracked = "release" if iteration == "release" else str(int(iteration.removeprefix("iter_")))
    (folder / TRACKER).write_text(tracked)


def newest(folder: Path) -> Path | None:
    """The folder of the iteration that the tracker names."""
    if not (folder / TRACKER).exists():
        return None
    tracked = (folder / TRACKER).read_text()
    return folder / ("release" if tracked == "release" else f"iter_{int(tracked):07d}")


def load(iteration: Path) -> dict[str, Any]:
    return numpy.load_file(iteration / "weights")
