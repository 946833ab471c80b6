"""What is typed is what is read: text, quotes, ~, relative paths, and settings of Hydra's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import make_checkpoint

from tau2_exp.compose.composition import chain_settings, compose_config, expand_sweep
from tau2_exp.compose.overrides import given, read
from tau2_exp.config import ConfigError, SftConfig

CONVERSATION = '{"prompt": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}\n'


def refusal(*overrides: str, by: Callable[[list[str]], object] = compose_config) -> str:
    with pytest.raises(ConfigError) as refused:
        by(list(overrides))
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


# ---------------------------------------------------------------- quoting

UNREADABLE = [
    ("stage.data=/d/a=1.jsonl", "stage.data='\"/d/a=1.jsonl\"'"),
    ("user.api_base=http://h:1/v1?api-version=1", "user.api_base='\"http://h:1/v1?api-version=1\"'"),
    ("stage.data=a#b", "stage.data='\"a#b\"'"),
    ("outputs=~/runs", "outputs='\"~/runs\"'"),
    ("outputs=a(b)", "outputs='\"a(b)\"'"),
    ("outputs=a[b]", "outputs='\"a[b]\"'"),
    ("outputs=é", "outputs='\"é\"'"),
    ("outputs=漢/字", "outputs='\"漢/字\"'"),
    ("outputs=it's", "outputs='\"it'\"'\"'s\"'"),
]


@pytest.mark.parametrize(("typed", "mend"), UNREADABLE)
@pytest.mark.parametrize("others", [[], ["stage=sft"], ["seed=3", "domain.limit=4"]], ids=str)
def test_the_quoting_hint_names_the_override_that_cannot_be_read(typed: str, mend: str, others: list[str]) -> None:
    assert refusal(*others, typed) == f"{typed}: cannot be read; put the value in quotes: {mend}"


@pytest.mark.parametrize(("typed", "mend"), UNREADABLE)
def test_what_the_hint_says_is_read_as_what_was_typed(typed: str, mend: str) -> None:
    key, _, value = typed.partition("=")
    pasted = mend.partition("=")[2].replace("'\"'\"'", "\0").replace("'", "").replace("\0", "'")
    assert given(read([f"{key}={pasted}"]), key) == value


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("seed=3\r", r"seed=3\r: ends in a carriage return, as lines of Windows files do; write seed=3"),
        ("seed = 3", "seed = 3: has spaces; write seed=3"),
        ("s(eed=3", "s(eed=3: s(eed is not the name of a setting; did you mean seed?"),
        ("seed", "seed: not a setting; write key=value; did you mean seed?"),
    ],
)
def test_what_is_no_setting_is_told_so(typed: str, told: str) -> None:
    assert refusal("stage=sft", typed) == told


# ---------------------------------------------------------------- text stays text


@pytest.mark.parametrize("typed", ["2025_11_26", "1e5", "true", "1_0", "False", "1.50", "0012", "inf"])
def test_text_that_looks_like_a_number_stays_what_was_typed(typed: str) -> None:
    config = compose_config(
        [
            "stage=eval",
            f"name={typed}",
            f"logger.project={typed}",
            f"policy.model={typed}",
            "hardware=slurm_cpu",
            f"hardware.slurm.account={typed}",
            f"hardware.slurm.setup=[{typed},b]",
            f"+hardware.slurm.options={{qos:{typed}}}",
            f"+hardware.slurm.options.comment={typed}",
        ]
    )
    slurm = config.hardware.slurm
    assert (config.name, config.logger.project, config.policy.model, slurm.account) == (typed,) * 4
    assert slurm.setup == [typed, "b"]
    assert slurm.options == {"qos": typed, "comment": typed}


def test_null_and_numbers_stay_what_they_are() -> None:
    config = compose_config(["name=null", "seed=1_0", "stage.sft.lr=1e-3", "domain.limit=null"])
    assert (config.name, config.seed, config.domain.limit) == (None, 10, None)


def test_text_stays_text_in_a_sweep_and_in_the_chain() -> None:
    assert [compose_config(job).name for job in expand_sweep(["name=1_0,2_0", "seed=0,1"])] == [
        "1_0",
        "1_0",
        "2_0",
        "2_0",
    ]
    assert refusal("experiment=2025_11", by=chain_settings).startswith("experiment=2025_11: no such experiment")


# ---------------------------------------------------------------- paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a model and a file of conversations, and a working directory without a `~` in it."""
    folder = tmp_path / "home"
    make_checkpoint(folder / "m")
    (folder / "x.jsonl").write_text(CONVERSATION)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_home_is_read_in_one_way_in_every_path(home: Path) -> None:
    config = compose_config(
        ["stage=sft", 'stage.data="~/x.jsonl"', 'model.path="~/m"', 'outputs="~/runs"', 'parent="~/p"', 'resume="~/r"']
    )
    assert isinstance(config.stage, SftConfig)
    assert (config.stage.data, config.model.path) == (f"{home}/x.jsonl", f"{home}/m")
    assert (config.outputs, config.parent, config.resume) == (f"{home}/runs", f"{home}/p", f"{home}/r")
    nested = compose_config(['stage.sft.data="~/x.jsonl"', "stage.stages=[sft]"])
    assert nested.stage.sft.data == f"{home}/x.jsonl"  # type: ignore[attr-defined]


def test_home_in_an_experiment_and_in_the_search_path_is_the_same_home(home: Path) -> None:
    (home / "conf" / "experiment").mkdir(parents=True)
    (home / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\noutputs: ~/runs\n")
    assert compose_config(['hydra.searchpath=["~/conf"]', "experiment=mine"]).outputs == f"{home}/runs"
    assert chain_settings(['hydra.searchpath=["~/conf"]', "experiment=mine"]).sft


def test_a_home_that_is_not_there_is_refused(home: Path) -> None:
    assert refusal('outputs="~nobody-of-that-name/x"').endswith("no home folder of that name; write the whole path")
    assert refusal("hydra.searchpath=[/none]").endswith("/none is no folder")


def test_relative_data_and_models_become_absolute_and_hub_names_stay(home: Path) -> None:
    config = compose_config(["stage=sft", "stage.data=home/x.jsonl", "model.path=home/m", "outputs=runs"])
    assert isinstance(config.stage, SftConfig)
    assert (config.stage.data, config.model.path) == (f"{home}/x.jsonl", f"{home}/m")
    assert config.outputs == "runs"  # moved as a whole
    assert compose_config(["stage=sft", "model.path=owner/model"]).model.path == "owner/model"


# ---------------------------------------------------------------- Hydra's own settings


@pytest.mark.parametrize("typed", ["hydra.run.dir=x", "hydra.sweep.dir=x", "hydra.job.chdir=true", "hydra/output=x"])
@pytest.mark.parametrize("by", [compose_config, expand_sweep, chain_settings])
def test_settings_of_hydra_that_have_no_effect_are_refused(typed: str, by: Callable[[list[str]], object]) -> None:
    line = refusal("stage=sft", typed, by=by)
    assert line.startswith(f"{typed}: has no effect here") and "outputs=FOLDER" in line


@pytest.mark.parametrize(
    "setting", ["run: {dir: x}", "sweep: {subdir: x}", "job: {chdir: true}", "job: {env_set: {A: b}}"]
)
@pytest.mark.parametrize("by", [compose_config, chain_settings])
def test_nor_may_a_file_set_them(tmp_path: Path, setting: str, by: Callable[[list[str]], object]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\nhydra:\n  {setting}\n")
    line = refusal(f"hydra.searchpath=[{tmp_path}]", "experiment=mine", by=by)
    assert line.startswith(f"hydra.{setting.partition(':')[0]}.") and "has no effect here" in line


@pytest.mark.parametrize(
    "typed", ["hydra.sweeper.params={seed:'0,1'}", "+hydra.sweeper.params.seed='0,1'", "hydra.sweeper.params.seed=0,1"]
)
def test_a_sweep_may_be_written_as_hydras_own_setting(typed: str) -> None:
    assert expand_sweep([typed, "stage=sft"]) == [["seed=0", "stage=sft"], ["seed=1", "stage=sft"]]
    assert "add -m" in refusal(typed)


def test_a_sweep_over_choices_and_one_over_nothing() -> None:
    assert expand_sweep(["domain=glob(t*)"]) == [["domain=telecom"]]
    assert "a sweep over no values" in refusal("domain=glob(x*)", by=expand_sweep)
    assert "must be settings and their values" in refusal("hydra.sweeper.params=3", by=expand_sweep)
    assert "no intervals" in refusal("stage.sft.lr=interval(0,1)", by=expand_sweep)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ['"a b ü"', "'a\nb'", "x" * 300, "a/b", ".a", "$x", "50%", "-a", "'a;b'"])
def test_names_that_a_script_or_a_folder_cannot_hold_are_refused(name: str) -> None:
    assert "must be a name of at most 100 of the letters" in refusal(f"name={name}")


@pytest.mark.parametrize("name", ["first", "'a=1'", "2025-11-26_x", "v1.2+b@c"])
def test_other_names_are_taken(name: str) -> None:
    assert compose_config([f"name={name}"]).name == name.strip("'")
