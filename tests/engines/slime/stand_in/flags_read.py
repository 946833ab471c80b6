"""slime's command line, read strictly: here an unknown flag, a wrong type or a missing one ends the job."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tau2_exp.engines.slime.plan.flags import Flag, known_flags

DEFAULTS = {"partial_rollout": False, "rollout_global_dataset": True, "over_sampling_batch_size": None}
DEFAULTS |= {"use_opd": False, "reward_key": None, "num_rollout": None, "num_epoch": None, "colocate": False}
DEFAULTS |= {"dynamic_sampling_filter_path": None, "custom_advantage_function_path": None}
TYPES: dict[str, Any] = {"int": int, "float": float, "str": str}


def read_arguments(argv: Sequence[str], *required: str) -> Namespace:
    """All flags as attributes, those of --custom-config-path's file among them. Exits where something is wrong."""
    words, values = list(argv), dict(DEFAULTS)
    while words:
        name, equals, value = words.pop(0).partition("=")
        flag = known_flags().get(name.removeprefix("--"))
        if flag is None:
            raise SystemExit(f"{name}: slime has no such flag")
        taken = [value] if equals else []
        while not taken_all(flag, taken) and words and not words[0].startswith("--"):
            taken.append(words.pop(0))
        values[flag.name.replace("-", "_")] = read_value(flag, taken)
    if missing := [name for name in required if name not in values]:
        raise SystemExit(f"missing: {', '.join(missing)}")
    if "custom_config_path" in values:
        values |= yaml.safe_load(Path(values["custom_config_path"]).read_text())
    return Namespace(**values)


def taken_all(flag: Flag, taken: Sequence[str]) -> bool:
    if flag.kind == "switch":
        return True
    return flag.nargs not in ("+", "*") and len(taken) >= (int(flag.nargs) if flag.nargs.isdigit() else 1)


def read_value(flag: Flag, words: Sequence[str]) -> Any:
    if flag.kind == "switch":
        return True
    if not words or (flag.choices and not set(words) <= set(flag.choices)):
        raise SystemExit(f"--{flag.name} {' '.join(words)}: wants a value, one of {flag.choices or flag.kind}")
    values = [TYPES.get(flag.kind, str)(word) for word in words]
    return values if flag.nargs not in ("", "?") else values[0]
