"""Small random models of families that only transformers computes, as folders that it saved."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tau2_exp.engines.torch.tokenizer import train_tokenizer

TEXTS = ["hello, world\n", '{"name": "get_customer_by_phone", "arguments": {"phone_number": "555-123-2002"}}\n']
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 16384, "eos_token_id": [3, 5],
    "bos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
}  # fmt: skip
WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
FAMILIES = {  # its model, its config, and what makes it unlike the dense ones; windows are shorter than the tests' rows
    "qwen3.5": ("Qwen3_5", "Qwen3_5Text", LINEAR),
    "gemma3": ("Gemma3", "Gemma3Text", WINDOWS),
    "qwen3-moe": ("Qwen3Moe", "Qwen3Moe", EXPERTS),
}


def new_family(name: str, folder: Path, **sizes: object) -> Path:
    """A model of the family, far from uniform, with a key in config.json that transformers does not know."""
    import transformers

    model, config, settings = FAMILIES[name]
    torch.manual_seed(0)
    made = getattr(transformers, f"{config}Config")(**SIZES | settings | sizes)
    theirs = getattr(transformers, f"{model}ForCausalLM")(made)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    transformers.utils.logging.disable_progress_bar()
    theirs.eval().save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"of_the_source": [1, 2]}))
    return folder


def with_tokenizer(name: str, folder: Path) -> Path:
    """The same with a tokenizer of its own size, for whole stages."""
    tokenizer = train_tokenizer(TEXTS, 400, ["<|im_start|>", "<|im_end|>"])
    new_family(name, folder, vocab_size=tokenizer.size, eos_token_id=tokenizer.token_id("<|im_end|>"))
    for file, content in tokenizer.files().items():
        (folder / file).write_text(content)
    return folder
