"""The settings of a finished run as overrides, for a run that continues under the same conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tau2_exp.compose.composition import model_choice
from tau2_exp.compose.overrides import key_of, quoted
from tau2_exp.config import Config, to_data

GROUPS = ("model", "domain", "user", "rollout", "engine", "hardware")
ORACLE = "oracle"  # of the policy, the one setting that the choice of a domain sets


def carried(config: Config, overrides: Sequence[str]) -> list[str]:
    """Overrides that give another run this one's model, domain, user, limits, engine and hardware; then `overrides`.

    A group that `overrides` choose anew (`user=litellm`) is left out as a whole.
    """
    data = to_data(config)
    chosen = {key_of(text) for text in overrides}
    kept = {group: data[group] for group in GROUPS if group not in chosen}
    if not chosen & {"policy", "domain"}:
        kept["policy"] = {ORACLE: data["policy"][ORACLE]}
    if not chosen & {"seed"}:
        kept["seed"] = data["seed"]
    if config.plugins and "plugins" not in chosen:
        kept["plugins"] = config.plugins
    return [*(model_choice(config) if "model" in kept else []), *_leaves(kept), *overrides]


def _leaves(data: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"++{above}{name}={written(value)}"


def written(value: Any) -> str:
    """A value as an override gives it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return quoted(str.__str__(value))
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(item)}' for key, item in value.items())}}}"
    return f"[{','.join(map(written, value))}]" if isinstance(value, list) else str(value)
