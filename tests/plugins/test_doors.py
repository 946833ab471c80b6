"""What a user brings is checked when it is composed, called where it belongs, and part of the content address."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dialogues import make_trajectory

from tau2_exp.compose.composition import compose_config, expand_sweep
from tau2_exp.config import ConfigError, RewardConfig, RewardKind
from tau2_exp.dispatch.slurm.snapshot import snapshot
from tau2_exp.learning.advantage import group_credit
from tau2_exp.learning.curriculum import make_curriculum
from tau2_exp.learning.reward import score
from tau2_exp.plugins import PluginError
from tau2_exp.plugins.source import plugin_of, reach_unchanged
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.types import Parts, Turn

HOUSE = ("domain=custom", "domain.provider=brought:House")
REFUSED = [
    (["reward=custom"], "reward.function=null", "reward.function=my_pkg.module:name"),
    (["reward.function=brought:score"], "reward.function=brought:score", "use that, or remove this"),
    (["reward=custom", "reward.function=brought.score"], "reward.function=brought.score", "must be module:name"),
    (["reward=custom", "reward.function=brougt:score"], "no module brougt", "PYTHONPATH"),
    (["reward=custom", "reward.function=brought:scor"], "has no scor", "did you mean score?"),
    (
        ["reward=custom", "reward.function=brought:NUMBER"],
        "is of type int, no function",
        "(trajectory, config) -> Reward",
    ),
    (["reward=custom", "reward.function=brought:one_argument"], "takes (trajectory)", "(trajectory, config) -> Reward"),
    (["reward.credit=brought:score"], "takes (trajectory, config)", "score(trajectories, rewards, config)"),
    (["user=custom", "user.function=brought:Mute"], "has no method reply", "Mute(task, world, config, seed) -> User"),
    (["user=custom", "user.function=brought:Blocking"], "its reply must be `async def`", "-> User"),
    (["curriculum=custom", "curriculum.function=brought:Silent"], "takes (task, world, config, seed)", "Curriculum"),
    (["domain=custom"], "domain.names=[]", "domain.provider=my_pkg.bank:Bank"),
    (["domain.provider=siera"], "domain.provider=siera", "did you mean sierra?"),
    (["domain=custom", "domain.provider=brought:Unnamed"], "that of τ²-bench's telecom", "use another"),
    (["domain=custom", "domain.provider=brought:Lost", "domain.eval_splits=[train]"], "the path of task 'x'", "cellar"),
    (["domain=custom", "domain.provider=brought:Untold"], "has no docstring", "what the caller is told"),
    (["domain=custom", "domain.provider=brought:Unjudged"], "task 'x'", "nothing judges it"),
    ([*HOUSE, "domain.names=[bank]"], "domain.names=[bank]", "remove it"),
    ([*HOUSE, "domain.eval_splits=[dev]"], "domain.eval_splits=dev", "(train, test)"),
    (["stage=custom"], "stage.function", "give one"),
    (["stage=custom", "stage.function=brought:score"], "takes (trajectory, config)", "score(context)"),
    (["stage=grpo", "policy=custom", "policy.function=brought:Gold"], "policy=custom", "remove it"),
    (["+plugins=[no_such_lab]"], "plugins=[no_such_lab]", "no module no_such_lab"),
    (["+plugins=no_such_lab"], "plugins=no_such_lab", "+plugins=[no_such_lab]"),
]


@pytest.mark.parametrize(("overrides", "names", "mend"), REFUSED, ids=lambda value: "-".join(value)[:60])
def test_what_will_not_do_is_refused_in_one_line(overrides: list[str], names: str, mend: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config(overrides)
    line = str(refused.value)
    assert names in line and mend in line and "\n" not in line, line


BROKEN = {
    "raises": ("1 / 0\n", "raised ZeroDivisionError: division by zero"),
    "lacks": ("import no_such_library\n", "raised ModuleNotFoundError: No module named 'no_such_library'"),
    "garbled": ("def score(\n", "raised SyntaxError"),
    "leaves": ("import sys\nsys.exit(3)\n", "raised SystemExit: 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, expected = BROKEN[name]
    (tmp_path / f"{name}_rewards.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as refused:
        compose_config(["reward=custom", f"reward.function={name}_rewards:score"])
    assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_called_is_told_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    played = make_trajectory(Turn("", ()), domain="telecom")
    custom = RewardConfig(kind=RewardKind.custom, function="brought:score")
    reward = score(played, custom)
    assert reward.outcome == played.outcome
    for path, expected in (("raises", "raised KeyError: 'lost'"), ("no_reward", "returned a float")):
        with pytest.raises(PluginError, match=f"reward.function=brought:{path}: {expected}"):
            score(played, dataclasses.replace(custom, function=f"brought:{path}"))
    with pytest.raises(PluginError, match=r"reward.credit=brought:too_few: must return finite numbers, \[1\]"):
        group_credit([(played, reward)], RewardConfig(credit="brought:too_few"))
    config = compose_config(["curriculum=custom", "curriculum.function=brought:Repeats"]).curriculum
    curriculum = make_curriculum(["telecom/1"], config, 0)
    with pytest.raises(PluginError, match="Repeats: draw"):
        curriculum.draw(1)
    with pytest.raises(PluginError, match="no JSON object"):
        curriculum.state()


@pytest.mark.parametrize("kind", ["outcome", "shaped", "turn_level"])
def test_own_credit_works_beside_any_reward(kind: str) -> None:
    """A group has signal where any advantage is not 0, whatever its rewards are."""
    turns = [Turn("", (), parts=Parts(env_assertion=value)) for value in (0.0, 1.0)]
    group = [make_trajectory(*turns, domain="telecom", reward=r) for r in (0.0, 1.0)]
    for path, signal in (("by_turn", True), ("nothing", False)):
        config = RewardConfig(kind=RewardKind(kind), credit=f"brought:{path}")
        credit = group_credit([(t, score(t, config)) for t in group], config)
        assert credit.signal is signal and [len(turns) for turns in credit.turn] == [2, 2]
        assert [turns[0] for turns in credit.turn] == [0.0, 0.0]


def lab(folder: Path, name: str, text: str) -> Path:
    """A package of one module, and a module in no package."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "__init__.py").touch()
    (folder / name / "rewards.py").write_text("from brought import score\n")
    (folder / name / "helper.py").write_text(text)
    return folder


def test_the_address_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab(tmp_path, "lab_one", "x = 1\n"))
    overrides = ["stage=grpo", "reward=custom", "reward.function=lab_one.rewards:score"]
    config = compose_config(overrides)
    first = content_address(config, None)
    sft = content_address(compose_config(["stage=sft", *overrides[1:]]), None)
    lab(tmp_path, "lab_one", "x = 2\n")  # beside the module, in its package
    assert content_address(config, None) != first
    assert content_address(compose_config(["stage=sft", *overrides[1:]]), None) == sft, "SFT reads no reward"
    lab(tmp_path, "lab_one", "x = 1\n")
    assert content_address(config, None) == first
    logged = [*overrides, "logger=custom", "logger.function=brought:Notes"]
    assert content_address(compose_config(logged), None) == first, "a logger changes no result"
    more = [*overrides, "+reward.options.bonus=2"]
    assert content_address(compose_config(more), None) != first


def test_a_run_without_own_parts_has_the_address_it_had() -> None:
    config = compose_config(["stage=grpo"])
    assert "sources" not in str(config) and config.reward.function is None
    named = dataclasses.replace(config.reward, options={})
    assert content_address(dataclasses.replace(config, reward=named), None) == content_address(config, None)


def test_a_frozen_run_is_not_gone_on_with_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab(tmp_path, "lab_two", "x = 1\n"))
    plugin = plugin_of("reward.function", "lab_two.rewards:score")
    reach_unchanged([plugin])
    lab(tmp_path, "lab_two", "x = 2\n")
    with pytest.raises(ConfigError, match="its source has changed since"):
        reach_unchanged([plugin])


def test_jobs_of_a_cluster_have_a_copy_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is edited while they wait does not reach them, and is no change of what their run was frozen with."""
    monkeypatch.syspath_prepend(lab(tmp_path, "lab_three", "x = 1\n"))
    plugin = plugin_of("reward.function", "lab_three.rewards:score")
    copy = snapshot(tmp_path, [plugin, plugin_of("reward.credit", "yaml:load")])
    assert not (copy / "yaml").exists(), "libraries stay where they are"
    lab(tmp_path, "lab_three", "x = 2\n")
    check = (
        "from tau2_exp.plugins import Plugin, reach_unchanged\n"
        f"reach_unchanged([Plugin(**{dataclasses.asdict(plugin)!r})])\n"
        "import lab_three.helper as helper; print(helper.x, helper.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", str(copy / "lab_three/helper.py")]


def test_a_sweep_over_own_functions() -> None:
    jobs = expand_sweep(
        ["stage=grpo", "reward=custom", "reward.function=brought:score,tests.brought:score", "seed=0,1"]
    )
    assert len({content_address(compose_config(job), None) for job in jobs}) == 4


def test_options_can_be_swept() -> None:
    jobs = expand_sweep(["stage=grpo", "reward=custom", "reward.function=brought:score", "+reward.options.bonus=1,2"])
    assert [compose_config(job).reward.options for job in jobs] == [{"bonus": 1}, {"bonus": 2}]
    assert len({content_address(compose_config(job), None) for job in jobs}) == 2


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def named(*overrides: str, parent: Run | None = None) -> Run:
        config = compose_config([*HOUSE, *overrides])
        address = content_address(config, parent and parent.manifest.address)
        return Run.create(config, address, tmp_path / f"run{len(list(tmp_path.iterdir()))}", parent)

    return named


def test_a_logger_that_raises_ends_no_run(make_run, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("stage=demos", "logger=custom", "logger.function=brought:Notes")
    run_stage(run)
    assert run.results["solved"] == 2 and (run.folder / "notes.txt").read_text() == "0\n"
    assert "logger.function=brought:Notes: episodes raised RuntimeError: the disk is full" in capsys.readouterr().out


def test_a_policy_of_ones_own_demonstrates(make_run) -> None:
    run = make_run("stage=demos", "policy=custom", "policy.function=brought:Gold")
    run_stage(run)
    assert run.results["solved"] == 2
    assert [plugin.key for plugin in run.manifest.plugins] == ["domain.provider", "policy.function"]


def test_a_user_of_ones_own(make_run) -> None:
    run = make_run("stage=eval", "policy=oracle", "user=custom", "user.function=brought:Silent", "stage.greedy=false")
    run_stage(run)
    assert {t.user for t in run.trajectories("test")} == {"silent"}


def test_a_stage_of_ones_own(make_run) -> None:
    run = make_run("stage=custom", "stage.function=brought:stage")
    run_stage(run)
    assert run.results == {"tasks": 4}


def test_an_installed_module_is_found_by_its_name_alone() -> None:
    assert plugin_of("reward.credit", "yaml:load").installed
    assert not plugin_of("reward.credit", "brought:by_turn").installed
    assert importlib.util.find_spec("brought") and str(Path(__file__).parents[1]) in sys.path
