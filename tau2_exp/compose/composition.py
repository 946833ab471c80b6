"""From Hydra's groups and overrides to one typed, checked configuration. Whatever is wrong becomes one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tau2_exp.compose.check import check
from tau2_exp.compose.errors import explain
from tau2_exp.config import STAGES, Config, ConfigError, PipelineConfig, from_data, to_data

CONF = Path(__file__).resolve().parents[2] / "conf"


def _register() -> None:
    """Make the schema known to Hydra; the stages need no YAML beside it."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in STAGES.items():
        store.store(group="stage", name=name, node=node)


def compose_config(overrides: Sequence[str]) -> Config:
    """The checked configuration of one run. Raises ConfigError."""
    if empty := next((text for text in overrides if text.partition("=")[1:] == ("=", "")), None):
        raise ConfigError(f"{empty}: has no value (a shell variable that is not set?); give one, or remove it")
    with _one_line(overrides):
        data = OmegaConf.to_container(_compose("config", overrides), resolve=True, throw_on_missing=True)
        config = from_data(cast(dict[str, Any], data))
    check(config)
    return config


def chain_settings(overrides: Sequence[str]) -> PipelineConfig:
    """The settings of the stages before one that has no parent: those of its groups, untouched by `stage.…`."""
    return _chain_settings(tuple(text for text in overrides if "." not in text.partition("=")[0]))


@dataclass
class _ChainConfig(Config):
    chain: PipelineConfig = MISSING


@cache
def _chain_settings(choices: tuple[str, ...]) -> PipelineConfig:
    ConfigStore.instance().store(name="chain_schema", node=_ChainConfig)
    with _one_line(choices):
        return cast(PipelineConfig, OmegaConf.to_object(_compose("chain", choices).chain))


def config_yaml(config: Config, section: str | None = None) -> str:
    """The configuration, or one section of it by its dotted name, as YAML. Raises ConfigError for any other name."""
    data = to_data(config)
    for name in section.split(".") if section else ():
        if not isinstance(data, dict) or not isinstance(data.get(name), dict):
            raise ConfigError(f"--package {section}: no such section")
        data = data[name]
    return yaml.safe_dump(data, sort_keys=False).rstrip()


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a sweep: the product of all `key=a,b` given, and of `hydra.sweeper.params`."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _one_line(overrides):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        plain = [o.input_line for o in parsed if not o.is_sweep_override() and o.input_line]
        swept = OmegaConf.select(_compose("config", plain, hydra=True), "hydra.sweeper.params") or {}
        lines = [f"{key}={values}" for key, values in swept.items()] + list(overrides)
        return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(lines), None)[0]


def _compose(name: str, overrides: Sequence[str], hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=hydra)


@contextmanager
def _one_line(overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error, overrides)) from error


_register()
