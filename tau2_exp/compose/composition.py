"""From Hydra's groups and overrides to one typed, checked configuration. Whatever is wrong becomes one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tau2_exp.compose.check import check
from tau2_exp.compose.choices import CONF, choices
from tau2_exp.compose.errors import explain
from tau2_exp.compose.overrides import SEARCHPATH, SWEPT, given, key_of, parse, read, swept, without_effect
from tau2_exp.config import STAGES, Config, ConfigError, EngineName, PipelineConfig, StageConfig, from_data
from tau2_exp.config.paths import expand_home, make_absolute
from tau2_exp.plugins import PluginError, conf_folders, is_path, named, reach

HEEDED_BY_HYDRA = {"run": ["dir"], "sweep": ["dir", "subdir"], "job": ["chdir", "env_set", "env_copy"]}


def _register() -> None:
    """Make the schema known to Hydra; the stages need no YAML beside it."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in STAGES.items():
        store.store(group="stage", name=name, node=node)


def compose_config(overrides: Sequence[str]) -> Config:
    """The checked configuration of one run; paths of data and models are absolute. Raises ConfigError."""
    config = read_config(overrides)
    check(config)
    return make_absolute(_with_backbone(config))


def _with_backbone(config: Config) -> Config:
    """What `engine.backbone=auto` comes to is part of the run: it decides the last bits of a result."""
    if config.engine.name is not EngineName.torch:
        return config
    from tau2_exp.engines.torch.choice import settled

    return settled(config)


def read_config(overrides: Sequence[str]) -> Config:
    """The same, before it is checked as a whole, and its paths as they are given. Raises ConfigError."""
    readable = read(overrides)
    with _one_line(overrides):
        composed = _compose("config", readable)
        data = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))
        _check_stage(OmegaConf.get_type(composed, "stage"), data["stage"]["name"])
        config = from_data(data)
    config = expand_home(config)
    if named(config):
        reach([Path.cwd()])
        config = _with_own_domain(config)
    return config


def _with_own_domain(config: Config) -> Config:
    """A custom domain has one name, its own. Raises ConfigError where it cannot be made."""
    domain = config.domain
    if not is_path(domain.provider):
        return config
    from tau2_exp.domains import open_domain

    try:
        name = open_domain(domain.provider).name
    except PluginError as error:
        raise ConfigError(str(error)) from error
    if domain.names not in ([], [name]):
        raise ConfigError(f"domain.names=[{','.join(domain.names)}]: {domain.provider} is [{name}]; remove it")
    return dataclasses.replace(config, domain=dataclasses.replace(domain, names=[name]))


def chain_settings(overrides: Sequence[str]) -> PipelineConfig:
    """The settings of the stages before one that has no parent: those of its groups, untouched by `stage.…`."""
    return _chain_settings(tuple(text for text in read(overrides) if _chooses(text)))


def chain_of(config: Config) -> PipelineConfig:
    """The same for a configuration whose overrides are not at hand: these settings depend on its model's choice alone.

    Raises ConfigError where that is none of those shipped.
    """
    if not (choice := model_choice(config)):
        raise ConfigError(
            f"model.name={config.model.name}: is none of the models under conf/, so that the settings of the stages "
            "before this one are unknown; give parent=RUN"
        )
    return chain_settings(choice)


def model_choice(config: Config) -> list[str]:
    """The override that chooses its model; none where it is none of those shipped."""
    name = config.model.name
    return [f"model={name}"] if name in choices("model") else []


def _check_stage(chosen: type[StageConfig] | None, name: str) -> None:
    if STAGES.get(name) is not chosen:
        raise ConfigError(f"stage.name={name}: a stage is chosen with all its settings; write stage={name}")


def _chooses(text: str) -> bool:
    """Whether it is the choice of a group, or says where else groups are found."""
    return "." not in key_of(text) or parse(text).is_hydra_override()


@dataclass
class _ChainConfig(Config):
    chain: PipelineConfig = MISSING


@cache
def _chain_settings(chosen: tuple[str, ...]) -> PipelineConfig:
    ConfigStore.instance().store(name="chain_schema", node=_ChainConfig)
    with _one_line(chosen):
        return cast(PipelineConfig, OmegaConf.to_object(_compose("chain", chosen).chain))


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a sweep: the product of all `key=a,b` given, and of `hydra.sweeper.params`."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    readable = read(overrides, sweep=True)
    own = [text for text in readable if not f"{key_of(text)}.".startswith(f"{SWEPT}.")]
    plain = [text for text in own if not parse(text).is_sweep_override()]
    with _one_line(overrides), _hydra() as loader:
        composed = compose("config", _with_plugins(plain), return_hydra_config=True)
        params = {**(OmegaConf.select(composed, SWEPT) or {}), **swept(readable)}
        lines = read([f"{key}={values}" for key, values in params.items()], sweep=True)
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*lines, *own])
        jobs: list[list[str]] = BasicSweeper.split_arguments(parsed, None)[0]
    if not jobs:
        raise ConfigError(f"-m {' '.join(overrides)}: a sweep over no values; give some")
    return jobs


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    with _hydra():
        composed = compose(name, _with_plugins(overrides), return_hydra_config=True)
    _check_hydra(composed.hydra)
    with open_dict(composed):
        del composed["hydra"]
    return composed


def _check_hydra(composed: DictConfig) -> None:
    """Raises ConfigError where a file sets what Hydra alone would heed; the command line's was refused before."""
    for section, names in HEEDED_BY_HYDRA.items():
        found, usual = _plain(composed[section]), _usual_hydra()[section]
        for name in names:
            if found[name] != usual[name]:
                raise without_effect(f"hydra.{section}.{name}={found[name]}")
    for group in ("launcher", "sweeper"):
        if (choice := composed.runtime.choices[f"hydra/{group}"]) != "basic":
            raise without_effect(f"hydra/{group}={choice}")


@cache
def _usual_hydra() -> dict[str, Any]:
    with resources.as_file(resources.files("hydra.conf") / "hydra/output/default.yaml") as file:
        return _plain(OmegaConf.merge(OmegaConf.structured(HydraConf), OmegaConf.load(file)))


def _plain(config: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config))


def _with_plugins(overrides: Sequence[str]) -> list[str]:
    """Import the packages that `+plugins=[…]` names; their folders of YAML join the search path, behind those given.

    Raises ConfigError for one that cannot be imported.
    """
    packages = given(overrides, "plugins")
    if packages is None:
        return list(overrides)
    if not isinstance(packages, list):
        raise ConfigError(f"plugins={packages}: must be a list: +plugins=[{packages}]")
    reach([Path.cwd()])
    places = [*(given(overrides, SEARCHPATH) or []), *(f"file://{folder}" for folder in conf_folders(packages))]
    kept = [text for text in overrides if key_of(text) != SEARCHPATH]
    return [*kept, f"{SEARCHPATH}=[{','.join(repr(place) for place in places)}]"]


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@contextmanager
def _one_line(overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error, overrides)) from error


_register()
