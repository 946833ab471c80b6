"""What a tool returned, as the text that τ²-bench shows the agent."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from pydantic import BaseModel


def render(result: Any) -> str:
    """Text as it is, models as spaced JSON; numbers outside of models become strings, as τ²-bench has it.

    Raises ValueError for what τ²-bench cannot show either.
    """
    return result if isinstance(result, str) else json.dumps(_process(result), default=str)


def _process(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_process(item) for item in value]
    if isinstance(value, dict):
        return {key: _process(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    raise ValueError(f"Unsupported type: {type(value)}")
