"""A run's content address. Two runs of the same address would have the same result, so that one is reused for both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tau2_exp import __version__
from tau2_exp.config import (
    TASK_REVISION,
    Backbone,
    Config,
    DemosConfig,
    EngineName,
    PolicyKind,
    TrainingConfig,
    UserKind,
    to_data,
)
from tau2_exp.plugins import Plugin, is_path, named, plugin_of

# What each stage's result depends on, beside its own settings, its parent and the seed.
READS = {
    "demos": ("domain", "user", "policy.oracle", "rollout"),
    "sft": ("domain.document", "domain.provider", "model", "engine.name", "hardware.dtype"),
    "rft": (
        "domain",
        "user",
        "model",
        "engine.name",
        "hardware.dtype",
        "rollout",
        "reward.weights",
        "reward.domain_weights",
    ),
    "grpo": ("domain", "user", "model", "engine.name", "hardware.dtype", "rollout", "reward", "curriculum"),
    "eval": ("domain", "user", "policy", "rollout"),
    "custom": (
        "domain",
        "user",
        "policy",
        "model",
        "engine.name",
        "hardware.dtype",
        "rollout",
        "reward",
        "curriculum",
    ),
}
# The same, of engine=slime; how it divides the model and the GPUs changes rounding alone.
OF_SLIME = {
    "sft": ("engine.slime.flags",),
    "rft": ("engine.slime.flags",),
    "grpo": ("engine.slime.flags", "engine.slime.asynchronous"),
}
# What the user may bring, and its own settings: a run that has none is addressed as if they did not exist.
OPTIONS = "options"
BROUGHT = {"function", "credit", OPTIONS}
# What changes how a result is come by, and not the result; so does whatever READS and OF_SLIME do not name. These
# settings are taken from the newest command wherever a run that is not finished is taken up: equal addresses say which.
NEUTRAL = set(
    "save_every keep_optimiser concurrency fault_retries retries timeout api_key_env cache budget_dollars "
    "budget_tokens".split()
)
LOGGER = "logger.function"  # it changes no result


def content_address(config: Config, parent: str | None) -> str:
    """The address of one stage's run; `parent` is that of the run it depends on."""
    data = to_data(config)
    parts = {key: _select(data, key) for key in READS[config.stage.name]}
    if config.stage.name == "eval":
        if config.policy.kind in (PolicyKind.model, PolicyKind.sglang):
            parts |= {key: _select(data, key) for key in ("model", "engine.name", "hardware.dtype")}
        elif config.policy.kind is PolicyKind.litellm:
            parts["max_new_tokens"] = config.model.max_new_tokens  # all that is asked of `model` then
    elif "domain" in parts and config.stage.name != "custom":
        del parts["domain"]["eval_splits"]
    if isinstance(config.stage, DemosConfig) and config.policy.kind is PolicyKind.custom:
        parts["policy"] = {key: data["policy"][key] for key in ("function", "options")}
    if sources := sources_of(plugins_of(config)):
        parts["sources"] = sources
    if config.engine.name is EngineName.slime:
        parts |= {key: _select(data, key) for key in OF_SLIME.get(config.stage.name, ())}
    elif "engine.name" in parts:
        parts |= of_torch(config)
    if source := data["stage"].get("data"):
        parts["data"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    if "model" in parts and not (config.model.lora and isinstance(config.stage, TrainingConfig)):
        parts["model"] = {key: value for key, value in parts["model"].items() if not key.startswith("lora")}
    if "model" in parts and config.model.path:
        parts["model files"] = _files(Path(config.model.path))
    parts |= {"stage": data["stage"], "seed": config.seed, "parent": parent}
    return _digest(parts, revision_of(config))


def of_torch(config: Config) -> dict[str, str]:
    """What more a result of engine=torch depends on, where it is not the default."""
    parts: dict[str, str] = {}
    if config.engine.backbone is Backbone.transformers:
        parts["engine.backbone"] = config.engine.backbone.value  # compose settles what `auto` comes to
    if config.stage.name != "sft":
        if config.serves_policy:
            parts["engine.sampler"] = config.engine.sampler.value
        elif not config.engine.lockstep and config.user.kind in (UserKind.scripted, UserKind.custom):
            parts["engine.lockstep"] = "false"  # a seed has several results, as it has with a user behind an API
    return parts


def plugins_of(config: Config) -> tuple[Plugin, ...]:
    """The user's plugins that this run calls: those of the settings that its stage reads, and the logger.

    Raises ConfigError where the source of one is not found.
    """
    reads = {*READS.get(config.stage.name, ()), "stage", "logger"}
    if isinstance(config.stage, DemosConfig):
        reads.add("policy")
    found = {key: path for key, path in named(config).items() if reads & {key, key.partition(".")[0]}}
    return tuple(plugin_of(key, path) for key, path in found.items())


def sources_of(plugins: Sequence[Plugin]) -> dict[str, str]:
    """By setting, the source of each plugin that a result depends on: the logger changes none."""
    return {plugin.key: plugin.source for plugin in plugins if plugin.key != LOGGER}


def revision_of(config: Config) -> str:
    """The revision of the run's tasks. Raises PluginError where the domain is the user's own and cannot be made."""
    if not is_path(config.domain.provider):
        return TASK_REVISION
    from tau2_exp.domains import task_revision

    return task_revision(config.domain)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configurations differ, by dotted name: (old, new)."""
    before, after = dict(_leaves(to_data(old))), dict(_leaves(to_data(new)))
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _leaves(data: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, data


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a local model, which may be trained anew in place; a hub name has none."""
    found = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found]


def pipeline_address(members: Sequence[str]) -> str:
    """The address of a pipeline, from the addresses of its runs in order."""
    return _digest({"members": list(members)})


def merged_address(parts: Sequence[str]) -> str:
    """The address of an evaluation that was merged from others, from their addresses in order."""
    return _digest({"merged": list(parts)})


def _digest(parts: dict[str, Any], revision: str = TASK_REVISION) -> str:
    parts = {**_without_neutral(parts), "revision": revision, "version": __version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _select(data: Any, key: str) -> Any:
    for name in key.split("."):
        data = data[name]
    return data


def _without_neutral(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        key: value if key == OPTIONS else _without_neutral(value)  # one of the user's own may be called as ours are
        for key, value in data.items()
        if key not in NEUTRAL and (value or key not in BROUGHT)
    }
