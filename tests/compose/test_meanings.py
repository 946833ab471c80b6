"""Every setting and every choice says what it means, in one place, and people read that wherever they look."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest
import yaml

from tau2_exp.compose.choices import CONF, choices, group_meanings, meaning_of
from tau2_exp.compose.composition import compose_config
from tau2_exp.compose.help import help_text
from tau2_exp.compose.keys import GROUPS, known_settings
from tau2_exp.compose.listing import config_yaml
from tau2_exp.compose.reference import configuration_page
from tau2_exp.config import STAGES, Config, ConfigError, GrpoConfig, to_data
from tau2_exp.config.setting import Setting, setting, walk

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [*walk(Config), *(one for name, cls in STAGES.items() for one in walk(cls, f"{name}: stage."))]


@pytest.mark.parametrize("one", SETTINGS, ids=lambda one: one.key)
def test_every_setting_says_what_it_means(one: Setting) -> None:
    meaning = one.notes.meaning
    assert len(meaning.split()) > 1 and meaning[-1] != "." and "\n" not in meaning
    kind = one.base_type
    if isinstance(kind, type) and issubclass(kind, Enum):
        assert all(str(member.value) in meaning for member in kind)
    if kind is not one.type:
        assert "null" in meaning


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_says_what_its_choice_means(path: Path) -> None:
    assert len(meaning_of(path).split()) > 1


def test_bounds_of_the_schema_hold_and_are_told() -> None:
    @dataclasses.dataclass
    class Section:
        share: float = setting(0.5, "a share", above=0, at_most=1)

    notes = next(walk(Section)).notes
    assert notes.problem(0.0) == "must be above 0" and notes.problem(2.0) == "must be at most 1"
    assert notes.problem(float("nan")) and notes.problem(1.0) is None
    assert Section() == Section(share=0.5)


def test_help_says_what_every_choice_means_in_lines_that_fit() -> None:
    text = help_text()
    words = " ".join(text.split())
    for group in GROUPS:
        assert f"  {group}: {group_meanings()[group]}" in text
        assert all(f"{name} {meaning}" in words for name, meaning in choices(group).items())
    assert max(map(len, text.splitlines())) <= 116


@pytest.mark.parametrize("overrides", [[], ["experiment=reference_grpo"], ["stage=eval", "policy=oracle"]], ids=str)
@pytest.mark.parametrize("section", [None, "stage", "hardware.slurm", "reward"])
def test_cfg_job_prints_each_keys_meaning_and_the_same_data(overrides: list[str], section: str | None) -> None:
    config = compose_config([*overrides, "hardware.slurm.setup=['a: b # c','two\nlines']"])
    text = config_yaml(config, section)
    data = to_data(config)
    for name in section.split(".") if section else ():
        data = data[name]
    assert yaml.safe_load(text) == data
    printed = known_settings(config.stage.name)
    below = {key: one for key, one in printed.items() if key.startswith(f"{section}." if section else "")}
    assert all(f"# {one.notes.meaning}" in text for one in below.values())


def test_a_text_of_several_lines_survives_its_comment() -> None:
    config = dataclasses.replace(compose_config([]), name="a\n\nb")
    assert yaml.safe_load(config_yaml(config)) == to_data(config)


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such section"):
        config_yaml(compose_config([]), "stage.lr")


def test_the_page_of_all_settings_is_the_schemas() -> None:
    page = configuration_page()
    assert page == (ROOT / "docs/configuration.md").read_text(encoding="utf-8"), (
        "the schema or conf/ has changed: python -m tau2_exp configuration > docs/configuration.md"
    )
    assert "| `stage.lr` | number | `1e-06` |" in page and GrpoConfig.lr == 1e-6


def test_the_command_prints_the_page() -> None:
    command = [sys.executable, "-m", "tau2_exp", "configuration"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed == (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
