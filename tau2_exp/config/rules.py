"""What the schema's values must be to go together, whatever does the work: ranges, names, sizes, a stage's sampling."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tau2_exp.config.config import Config
from tau2_exp.config.names import NAME_RULE, is_name
from tau2_exp.config.nearest import suggest
from tau2_exp.config.paths import is_hub_name
from tau2_exp.config.setting import Notes, settings_of
from tau2_exp.config.stage import CHAIN, EvalConfig, GrpoConfig, PipelineConfig, RftConfig, StageConfig, stages_of

LEAST_TEMPERATURE = 1e-6
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[0-9a-f]{24,}|[0-9A-F]{24,}")  # hexadecimal, as some keys are


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    if config.dry_run not in (True, False, "json"):
        yield f"dry_run={config.dry_run}: must be true (a shell script), json (data) or false"
    if config.name is not None and not is_name(config.name):
        yield f"name={ascii(config.name)[1:-1]}: {NAME_RULE}"
    yield from _ranges(config, "")
    yield from _model(config)
    yield from _secrets(config)
    if isinstance(config.stage, PipelineConfig):
        yield from _pipeline(config, config.stage)
    for stage, prefix in stages_of(config.stage):
        yield from _sampling(stage, prefix)


def _ranges(section: Any, prefix: str) -> Iterator[str]:
    for one in settings_of(type(section)):
        yield from _range(prefix + one.key, getattr(section, one.key), one.notes)


def _range(key: str, value: Any, notes: Notes) -> Iterator[str]:
    if dataclasses.is_dataclass(value):
        yield from _ranges(value, f"{key}.")
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _range(f"{key}.{name}", entry, notes)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and (problem := notes.problem(value)):
        yield f"{key}={value}: {problem}"


def _model(config: Config) -> Iterator[str]:
    model = config.model
    if model.name == "hf" and not model.path and not config.parent:
        yield "model=hf: has no weights; give model.path=FOLDER or a hub name, or parent=RUN"
    if model.max_new_tokens >= model.context:
        yield f"model.max_new_tokens={model.max_new_tokens}: must be less than model.context={model.context}"
    if model.heads % model.kv_heads:
        yield f"model.kv_heads={model.kv_heads}: must divide model.heads={model.heads}"
    for name in ("lora_alpha", "lora_targets", "lora_dropout"):
        if getattr(model, name) and not model.lora:
            yield f"model.{name}: there is no adapter to set up; give model.lora=RANK, or remove it"
    if model.head_dim % 2:
        yield f"model.head_dim={model.head_dim}: must be even"
    if model.path and not is_hub_name(model.path) and not (Path(model.path) / "config.json").is_file():
        yield f"model.path={model.path}: no model folder there (no config.json); a hub name has the form owner/name"


def _secrets(config: Config) -> Iterator[str]:
    """A key itself would be frozen into files; so no value of these is shown."""
    for name, section in (("policy", config.policy), ("user", config.user), ("logger", config.logger)):
        given = section.api_key_env
        if given is not None and (not _VARIABLE.fullmatch(given) or _KEY.fullmatch(given)):
            yield f"{name}.api_key_env: must be the name of an environment variable (OPENAI_API_KEY), not the key"
    for name, kind, options in (
        ("policy", config.policy.kind.value, config.policy.options),
        ("user", config.user.kind.value, config.user.options),
    ):
        if options and kind != "custom":
            yield f"{name}.options: are read by {name}=custom alone; remove them"


def _pipeline(config: Config, stage: PipelineConfig) -> Iterator[str]:
    given = f"stage.stages=[{','.join(stage.stages)}]"
    for name in stage.stages:
        if name not in CHAIN:
            yield f"{given}: {name} is no stage of a pipeline{suggest(name, CHAIN)} (there are {', '.join(CHAIN)})"
            return
    if not stage.stages or sorted(stage.stages, key=CHAIN.index) != stage.stages:
        yield f"{given}: must be some of {', '.join(CHAIN)}, in this order"
    if len(set(stage.stages)) < len(stage.stages):
        yield f"{given}: names one twice"
    if config.parent or stage.stages == ["demos"]:
        return
    if "sft" not in stage.stages:
        yield f"{given}: has no sft to begin with; add it, or give parent=RUN"
    if "demos" not in stage.stages and not stage.sft.data:
        yield f"{given}: sft has no training data; add demos, or give stage.sft.data=FILE"


def _sampling(stage: StageConfig, prefix: str) -> Iterator[str]:
    name = prefix + "samples_per_prompt"
    temperature = getattr(stage, "temperature", 0.0)
    if 0 < temperature < LEAST_TEMPERATURE:  # logits over it overflow
        yield f"{prefix}temperature={temperature:g}: must be 0 (greedy), or {LEAST_TEMPERATURE:g} or more"
    if isinstance(stage, RftConfig):
        if stage.temperature == 0 and stage.samples_per_prompt > 1:
            yield f"{prefix}temperature=0: makes {stage.samples_per_prompt} equal samples; use 0.8, or one sample"
    elif isinstance(stage, GrpoConfig):
        if stage.samples_per_prompt < 2:
            yield f"{name}={stage.samples_per_prompt}: a group of one has no advantage; it must be 2 or more"
        if stage.temperature == 0:
            yield f"{prefix}temperature=0: explores nothing; use 0.7 to 1.0"
        yield from _step_size(stage, prefix)
    elif isinstance(stage, EvalConfig) and stage.samples_per_prompt == 0 and not stage.greedy:
        yield f"{name}=0: nothing to evaluate; use 4, or {prefix}greedy=true"


def _step_size(stage: GrpoConfig, prefix: str) -> Iterator[str]:
    tasks, tokens = stage.prompts_per_step, stage.sampled_tokens
    if tasks is not None and tokens is not None:
        mend = f"use {prefix}prompts_per_step=null with it"
        yield f"{prefix}sampled_tokens={tokens}: prompts_per_step={tasks} says how large a step is too; {mend}"
    elif tasks is None and tokens is None:
        yield f"{prefix}prompts_per_step=null: a step has no size; give it, or {prefix}sampled_tokens"
