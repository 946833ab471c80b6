"""The litellm library: imported where it is needed, its counts of tokens and its prices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

from tau2_exp.types import Schema, Usage


@cache
def litellm_module() -> ModuleType:
    """litellm, without asking the network for prices as its import would. Takes 3.5 s: call it in a thread."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        import litellm
    except ImportError as error:
        raise ImportError("litellm is not installed: pip install 'tau2_exp[litellm]'") from error
    litellm.suppress_debug_info = True
    return litellm


def told_usage(response: Any, model: str) -> Usage | None:
    """The usage that a reply reports; None where it reports none."""
    usage = getattr(response, "usage", None)
    prompt, completion = (getattr(usage, f"{kind}_tokens", 0) or 0 for kind in ("prompt", "completion"))
    return Usage(prompt, completion, _cost(response, model)) if prompt or completion else None


def counted_usage(model: str, prompt: int, text: str) -> Usage:
    """The usage of a reply by our own count, for a server that reports none."""
    completion = count_tokens(model, text=text)
    return Usage(prompt, completion, price(model, prompt, completion))


def count_prompt(model: str, messages: Sequence[dict[str, Any]], tools: Sequence[Schema]) -> int:
    """The tokens of a request, by litellm's tokenizer for the model; that of GPT-4 where it knows none."""
    return count_tokens(model, messages=list(messages), tools=list(tools) or None)


def count_tokens(model: str, **text: Any) -> int:
    """The tokens of `text`, or of `messages` and `tools`, by litellm's tokenizer for the model."""
    return int(litellm_module().token_counter(model=model, **text))


def price(model: str, prompt: int, completion: int) -> float | None:
    """The price in US dollars of so many tokens of prompt and completion; None where litellm lists none."""
    try:
        return float(sum(litellm_module().cost_per_token(model, prompt, completion)))
    except Exception:  # litellm raises bare Exceptions for models without a price
        return None


def has_price(model: str) -> bool:
    """Whether litellm's own table lists what the model's tokens cost."""
    return price(model, 1, 1) is not None


def _cost(response: Any, model: str) -> float | None:
    """By the price of the model that the reply names, else of the one that was asked for; None where none is listed."""
    for named in (None, model):
        try:
            return float(litellm_module().completion_cost(response, model=named))
        except Exception:  # as above
            continue
    return None


def missing_keys(model: str) -> list[str]:
    """The variables of the environment that hold the model's API key and are not set, as far as litellm knows them."""
    found = litellm_module().validate_environment(model)
    return [name for name in map(str, found["missing_keys"]) if name.endswith("_API_KEY")]
