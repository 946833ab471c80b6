"""Arms: groups of runs that differ in a setting other than the seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tau2_exp.config import READ_BY, EngineName, PolicyKind, RewardKind, to_data
from tau2_exp.evaluation.scores import AGENT, imported_facts
from tau2_exp.runs.address import NEUTRAL, OF_SLIME, OPTIONS, READS, of_torch, sources_of
from tau2_exp.runs.run import Run

Making = dict[tuple[str, str], Any]  # (stage, setting) → value, of a run and of all that it depends on
Values = dict[str, Any]  # the settings of one arm that differ between arms, by their shortest clear names

# Where a server happens to run changes no result.
_PLACES = {"url", "api_base"}
DEFAULTS_OF_TORCH = {"engine.backbone": "own", "engine.sampler": "torch", "engine.lockstep": "true"}
_FIRST = ("reward.kind", "reward.alpha", "samples_per_prompt")  # the order of names in labels


def lineage(run: Run) -> list[Run]:
    """The run and what it depends on, oldest first. Raises ConfigError where a parent is gone."""
    return [*(lineage(run.parent) if run.parent else []), run]


def making(run: Run) -> Making:
    """All settings that a trained model depends on; for an evaluation, those of its policy."""
    if run.stage == "pipeline":
        return {}
    if run.stage == "eval":
        return {("eval", key): value for key, value in _agent(run).items()}
    made = lineage(run)
    stages = {("", "stages"): " ".join(ancestor.stage for ancestor in made)}
    return stages | {(one.stage, key): value for one in made for key, value in _settings(one).items()}


def seed_name(run: Run) -> str:
    """The seeds of a lineage: one number where all are the same. An evaluation of a trained model takes its model's."""
    if run.stage == "eval" and run.parent:
        return seed_name(run.parent)
    seeds = [str(ancestor.config.seed) for ancestor in reversed(lineage(run))]
    return seeds[0] if len(set(seeds)) == 1 else "/".join(seeds)


def policy_label(run: Run) -> tuple[str, ...]:
    """The policy of an evaluation, where no model of ours is evaluated."""
    policy = run.config.policy
    if policy.kind is PolicyKind.oracle:
        return ("oracle", policy.oracle.value)
    if policy.function is not None:
        return ("custom", policy.function)
    return (policy.model or policy.kind.value,) if policy.kind is PolicyKind.litellm else (run.config.model.name,)


def differing_settings(makings: Sequence[Making]) -> list[Values]:
    """For each run the settings that differ between runs; a setting with one value in all stages is named once."""
    differing = [pair for pair in dict.fromkeys(pair for m in makings for pair in m) if _varies(pair, makings)]
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for _, key in differing):
        stages = [stage for stage, other in differing if other == key]
        shared = all(len({_frozen(m[s, key]) for s in stages if (s, key) in m}) <= 1 for m in makings)
        for stage in stages[:1] if shared else stages:
            found = [next((m[s, key] for s in (stages if shared else [stage]) if (s, key) in m), None) for m in makings]
            columns[key if shared else f"{stage}.{key}"] = found
    names = _without_echoes(sorted(columns, key=_order), columns)
    short = _shortened(names)
    return [
        {short[name]: columns[name][i] for name in names if columns[name][i] is not None} for i in range(len(makings))
    ]


def arm_label(values: Mapping[str, Any]) -> str:
    """`turn_level alpha=0.25`; empty where there is only one arm."""
    return " ".join(_text(value) if name == "kind" else f"{name}={_text(value)}" for name, value in values.items())


def flatten(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings by their dotted keys, less those that change no result.

    The options of the user's own are theirs, whatever they are called.
    """
    if not isinstance(data, dict):
        yield prefix, data
        return
    for name, value in data.items():
        if name not in NEUTRAL and name not in _PLACES:
            key = f"{prefix}.{name}" if prefix else name
            yield from _leaves(value, key) if name == OPTIONS else flatten(value, key)


def _leaves(data: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(data, dict):
        yield prefix, data
        return
    for name, value in data.items():
        yield from _leaves(value, f"{prefix}.{name}")


# ---------------------------------------------------------------- the pieces


def _settings(run: Run) -> dict[str, Any]:
    data = to_data(run.config)
    found = _chosen(data, READS[run.stage])
    if run.stage != "eval":
        found.pop("domain.eval_splits", None)
    for name in (name for name, kinds in READ_BY.items() if run.config.reward.kind not in kinds):
        found = {key: value for key, value in found.items() if not f"{key}.".startswith(f"reward.{name}.")}
    found |= sources(run) | _of_engine(run)
    branches = run.config.reward.kind is RewardKind.branch
    stage = {key: value for key, value in flatten(data["stage"]) if key != "name"}
    return found | {key: value for key, value in stage.items() if branches or not key.startswith("branch.")}


def _agent(run: Run) -> dict[str, Any]:
    """The settings of an evaluation's agent; of an imported one, what its files hold."""
    data = to_data(run.config)
    if agent := imported_facts(run).get(AGENT):
        arguments = dict(flatten(agent["llm_args"]))
        # As one text: arguments that only one of two agents has tell them apart as well.
        told = {"policy.kind": "imported", f"{AGENT}.llm_args": json.dumps(arguments, sort_keys=True)}
        return told | {f"{AGENT}.{key}": value for key, value in agent.items() if key != "llm_args"}
    kind = run.config.policy.kind
    if kind is PolicyKind.oracle:
        return _chosen(data, ("policy.kind", "policy.oracle"))
    if kind is PolicyKind.litellm:
        return _chosen(data, ("policy.kind", "policy.model", "model.max_new_tokens"))
    if kind is PolicyKind.custom:
        source = {key: value for key, value in sources(run).items() if key.startswith("policy.")}
        return _chosen(data, ("policy.kind", "policy.function", "policy.options")) | source
    return _chosen(data, ("model", "engine.name", "hardware.dtype")) | _of_engine(run)


def sources(run: Run) -> dict[str, Any]:
    """The source of each function of the user's own that the run's result depends on, as a setting."""
    return {f"{key} source": source for key, source in sources_of(run.manifest.plugins).items()}


def _of_engine(run: Run) -> dict[str, Any]:
    """What more a run's model depends on, by its engine."""
    config = run.config
    if "engine.name" not in READS[run.stage] and run.stage != "eval":
        return {}
    if config.engine.name is EngineName.slime:
        return _chosen(to_data(config), OF_SLIME.get(run.stage, ()))
    return DEFAULTS_OF_TORCH | of_torch(config)


def _chosen(data: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        value: Any = data
        for name in key.split("."):
            value = value[name]
        found |= dict(flatten(value, key))
    return found


def _varies(pair: tuple[str, str], makings: Sequence[Making]) -> bool:
    """Whether the setting has several values among the runs that have it; runs without it do not count."""
    return len({_frozen(m[pair]) for m in makings if pair in m}) > 1


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(inner)) for key, inner in value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _without_echoes(names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Drops a setting whose values split the runs into the same groups as an earlier setting."""
    kept: dict[tuple[int, ...], str] = {}
    for name in names:
        values = [_frozen(value) for value in columns[name]]
        kept.setdefault(tuple(values.index(value) for value in values), name)
    return list(kept.values())


def _shortened(names: Sequence[str]) -> dict[str, str]:
    """Each by its last part, where no other has the same."""
    last = [name.rsplit(".", 1)[-1] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}


def _order(name: str) -> tuple[int, str]:
    return next((i for i, first in enumerate(_FIRST) if name.endswith(first)), len(_FIRST)), name


def _text(value: Any) -> str:
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
