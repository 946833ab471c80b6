"""Which model learns or is evaluated, and how its turns are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from tau2_exp.config.setting import setting

RANDOM_BASE = "an adapter needs weights to stand beside, and this model is new; give model.path=FOLDER, or remove it"


class ProtocolName(str, Enum):
    """How a turn is written as text; see `protocols/`."""

    single_action = "single_action"
    native = "native"


class Thinking(str, Enum):
    """What a model that can think before it answers is told; see `protocols/template.py`."""

    off = "off"
    keep = "keep"


@dataclass
class ModelConfig:
    """The model: where its weights are, or its sizes where it starts from random weights."""

    name: str = setting(MISSING, "name of the model in reports and messages; a run's parent must have the same")
    path: str | None = setting(
        None, "folder or Hugging Face name of a checkpoint; null: random weights of the sizes below", path=True
    )
    layers: int = setting(2, "number of transformer layers", above=0)
    width: int = setting(128, "size of the hidden state", above=0)
    heads: int = setting(4, "number of attention heads of a layer", above=0)
    kv_heads: int = setting(2, "number of key and value heads of a layer; a divisor of heads", above=0)
    head_dim: int = setting(32, "size of one attention head; an even number", above=0)
    ffn: int = setting(384, "hidden size of the feed-forward network of a layer", above=0)
    vocab_size: int = setting(1900, "number of tokens; an upper bound where the tokenizer is trained as well", above=0)
    rope_base: float = setting(10000.0, "base of the rotary position embedding", above=0)
    tied: bool = setting(True, "whether the output layer shares the weights of the input embedding")
    experts: int = setting(
        0, "number of experts of a layer; 0: a dense model (slime; torch reads config.json)", at_least=0
    )
    experts_per_token: int = setting(0, "number of experts that a token passes through", at_least=0)
    expert_ffn: int = setting(0, "hidden size of one expert's feed-forward network", at_least=0)
    context: int = setting(32768, "context window: the most tokens that an episode may have", above=0)
    max_new_tokens: int = setting(1024, "the most tokens that the model may write in one turn", above=0)
    protocol: ProtocolName = setting(
        ProtocolName.single_action,
        "how a turn is written as text: single_action (one JSON action a turn), native (Qwen's own tool calls)",
    )
    lora: int | None = setting(
        None, "rank of a LoRA adapter, trained in place of the weights (engine=torch); null: train all weights", above=0
    )
    lora_alpha: int | None = setting(
        None, "the adapter's output is scaled by this over its rank; null: twice the rank", above=0
    )
    lora_targets: list[str] = setting(
        list, "names of the linear layers that get an adapter, such as q_proj; empty: all but the output layer"
    )
    lora_dropout: float = setting(
        0.0, "share of an adapter's inputs dropped in SFT and RFT; never in sampling or GRPO", at_least=0, at_most=0.9
    )
    schemas: bool = setting(True, "whether the system prompt lists the schemas of the tools")
    thinking: Thinking = setting(
        Thinking.off,
        "native, where the model's chat template can switch thinking: off (an empty thinking block opens each turn), "
        "keep (the model may think; its thoughts are trained on and never heard by the user)",
    )
