"""What the settings read of a checkpoint."""

import json
from pathlib import Path

QWEN3 = {  # all that has to be in a checkpoint's config.json
    "model_type": "qwen3",
    "vocab_size": 100,
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
}


def make_checkpoint(folder: Path) -> None:
    """A folder that the settings take for a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(QWEN3))
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).touch()
