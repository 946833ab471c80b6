"""Which backbone a model gets: read from its config.json, without torch and without importing transformers."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from tau2_exp.config import Backbone, Config, ConfigError, EngineName, EvalConfig, PolicyKind, TrainingConfig, stages_of
from tau2_exp.config.paths import is_hub_name
from tau2_exp.engines.torch.hub import Unreachable, fetch
from tau2_exp.engines.torch.shape import ModelShape, NotOurs

OLDEST = (5, 23)  # of transformers, whose caches these are tested with
INSTALL = f"pip install 'transformers>={OLDEST[0]}.{OLDEST[1]}'"
NAMES = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
SEES = "ForConditionalGeneration"  # a model that also reads images or sound; its language model is one of NAMES
COST = {
    Backbone.own: "by the engine's own decoder: rows are packed, and a prefix that they share is computed once",
    Backbone.transformers: "by transformers: rows are padded, a shared prefix is computed for each row, and prompts "
    "one after the other; slower than the own decoder",
}


def choose(data: dict[str, Any], wanted: Backbone) -> Backbone:
    """The backbone of a model with this config.json: the one that is wanted, or for `auto` the own where it can.

    Raises NotOurs saying what cannot work, KeyError naming a size that is missing.
    """
    if data.get("is_encoder_decoder"):
        raise NotOurs("is_encoder_decoder is true; engine=torch takes causal language models, which have no encoder")
    lacks = ""
    if wanted is not Backbone.transformers:
        try:
            ModelShape.from_hf(data)
            return Backbone.own
        except NotOurs as error:
            lacks = f"{error}, which the own decoder lacks"
    if wanted is Backbone.own:
        raise NotOurs(f"{lacks}; remove engine.backbone=own")
    if problem := _not_theirs(data):
        raise NotOurs(f"{lacks}; {problem}" if lacks else problem)
    return Backbone.transformers


def read_config(path: str) -> dict[str, Any]:
    """The config.json of a local folder or a hub name.

    Raises OSError or ValueError where a folder's cannot be read, ConfigError where the hub has none, Unreachable where
    the hub does not answer.
    """
    text = fetch(path, "config.json") if is_hub_name(path) else (Path(path) / "config.json").read_text()
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("config.json is no JSON object")
    return data


def settled(config: Config) -> Config:
    """The configuration with backbone=transformers where `auto` comes to that; its rules hold already."""
    if config.engine.name is not EngineName.torch or config.engine.backbone is not Backbone.auto:
        return config
    if not config.model.path or not loads_model(config):
        return config
    try:
        backbone = choose(read_config(config.model.path), Backbone.auto)
    except Unreachable:
        return config
    if backbone is Backbone.own:
        return config
    return dataclasses.replace(config, engine=dataclasses.replace(config.engine, backbone=backbone))


def told(config: Config) -> str | None:
    """The plan's line about the backbone of a checkpoint; None for a run that loads none, and for random weights."""
    path = config.model.path
    if config.engine.name is not EngineName.torch or not path or not loads_model(config):
        return None
    try:
        data = read_config(path)
        return f"model: {data['model_type']}, {COST[choose(data, config.engine.backbone)]}"
    except Unreachable as error:
        return f"note: {error}; what computes the model is known when the run starts"
    except (OSError, ValueError, KeyError, ConfigError):
        return None  # gone since; a run that has its parent's model needs it no more


def loads_model(config: Config) -> bool:
    """Whether a run of this configuration loads a model into this engine."""
    is_policy = isinstance(config.stage, EvalConfig) and config.policy.kind is PolicyKind.model
    return (is_policy and not config.serves_policy) or trains(config)


def trains(config: Config) -> bool:
    """Whether a stage of this configuration trains a model."""
    return any(isinstance(stage, TrainingConfig) for stage, _ in stages_of(config.stage))


def _not_theirs(data: dict[str, Any]) -> str | None:
    """Why transformers cannot load the model as a causal language model; None where it can."""
    kind = data.get("model_type")
    if importlib.util.find_spec("transformers") is None:
        return f"transformers, which may know model_type {kind!r}, is not installed: {INSTALL}"
    version = importlib.metadata.version("transformers")
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        return f"engine.backbone=transformers needs a newer transformers than {version}: {INSTALL}"
    name = _causal_models().get(str(kind))
    if name is None:
        return f"model_type {kind!r} is no causal language model of transformers {version}"
    given = data.get("architectures") or [name]
    if not any(one == name or one.endswith(SEES) for one in given):
        return f"architectures is {given}, and a causal language model of model_type {kind!r} is {name}"
    return None


@cache
def _causal_models() -> dict[str, str]:
    """Transformers' causal language models, model_type → class, from the source of the installed version.

    Importing them takes seconds; a command that only plans should not wait.
    """
    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == NAMES:
            assert isinstance(node.value, ast.Call)
            return dict(ast.literal_eval(node.value.args[0]))
    raise NotOurs(f"transformers has no {NAMES}: {INSTALL}")
