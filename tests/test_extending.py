"""docs/extending.md is run as it stands: its files are written, its commands done, and each does what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, read

from tau2_exp.codec import decode
from tau2_exp.jsonl import read_jsonl
from tau2_exp.learning.reward import standard_score
from tau2_exp.runs.run import Run
from tau2_exp.types import StopReason, Trajectory

PAGE = (ROOT / "docs/extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.splitlines()[0].removeprefix("# "): text for kind, text in BLOCKS if kind in ("python", "yaml")}
COMMANDS = [text for kind, text in BLOCKS if kind == "bash"]
NAMES = re.findall(r" name=(\w+)", "".join(COMMANDS))


class Lab:
    """A folder with the page's files, where its commands are typed."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "run.py").symlink_to(ROOT / "run.py")
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "my_lab/__init__.py").touch()

    def type(self, command: str) -> str:
        words = shlex.split(command.replace("\\\n", " "))
        assert words[0] == "python"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=self.folder, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def do(self, name: str) -> Path:
        """The run that the page's command of this name leaves."""
        self.type(next(text for text in COMMANDS if f" name={name} " in text))
        return self.folder / "outputs" / name


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """With the bank's pipeline done."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    made.do("bank")
    return made


def played(run: Path, file: str) -> list[Trajectory]:
    return [decode(Trajectory, record) for record in read_jsonl(run / f"trajectories/{file}.jsonl")]


def plugins(run: Path) -> dict[str, Any]:
    return {plugin["key"]: plugin for plugin in read(run / "manifest.json")["plugins"]}


def test_every_command_of_the_page_is_tested() -> None:
    tested = {"bank", "short", "last", "hard", "hurried", "reckless", "warm", "logged"}
    assert set(NAMES) == tested and len(COMMANDS) == len(tested) + 1


def test_the_bank_is_learned(lab: Lab) -> None:
    """SFT teaches the protocol, and GRPO adds to it what is more than chance."""
    outputs = lab.folder / "outputs"
    shown = {s: read(outputs / f"bank-{s}-eval/results.json")["splits"]["train"] for s in ("sft", "grpo")}
    sft, grpo = (shown[stage]["measures"]["pass@1"]["value"] for stage in ("sft", "grpo"))
    assert shown["sft"]["nothing"]["value"] == 0.0, "doing nothing solves no task"
    assert sft > 0.3 and grpo > sft + 0.03, (sft, grpo)
    rewards = [record["outcome"] for record in read_jsonl(outputs / "bank-grpo/metrics.jsonl")]
    assert sum(rewards[-10:]) > sum(rewards[:10]), rewards
    manifest = read(outputs / "bank-grpo/manifest.json")
    assert manifest["revision"].startswith("bank@") and "my_lab.bank:Bank" in manifest["provider"]
    assert read(outputs / "bank-sft-eval/plan.json")["revision"] == manifest["revision"]
    assert list(plugins(outputs / "bank-grpo")) == ["domain.provider"]


def test_the_tools_of_the_bank_are_those_that_its_functions_describe(lab: Lab) -> None:
    demo = played(lab.folder / "outputs/bank-demos", "demos")[0]
    assert [message.content for message in demo.opening[-1:]] == ["I want to withdraw 10 dollars."]
    results = [message.content for turn in demo.turns for message in turn.messages if message.requestor]
    assert results == ["The balance is 5 dollars."] and demo.turns[-1].parts.db_progress == 1.0


def test_a_reward(lab: Lab) -> None:
    run = lab.do("short")
    config, episodes = Run.open(run).config.reward, played(run, "rollouts")
    expected = [standard_score(t, config).shaped - 0.05 * len(t.turns) for t in episodes]
    assert next(iter(read_jsonl(run / "metrics.jsonl")))["shaped"] == pytest.approx(sum(expected) / len(expected))
    assert set(plugins(run)) == {"domain.provider", "reward.function"}


def test_credit(lab: Lab) -> None:
    run = lab.do("last")
    assert plugins(run)["reward.credit"]["path"] == "my_lab.rewards:advantages"
    groups = next(iter(read_jsonl(run / "metrics.jsonl")))["groups"]
    by_task: dict[str, list[Trajectory]] = {}
    for trajectory in played(run, "rollouts"):
        by_task.setdefault(trajectory.key, []).append(trajectory)
    assert 0 < groups <= sum(len({t.outcome for t in group}) > 1 for group in by_task.values())


def test_a_curriculum(lab: Lab) -> None:
    """In the second step come the tasks that the first solved least; what it did not try counts as half solved."""
    episodes = played(lab.do("hard"), "rollouts")
    first, second = episodes[:48], {t.task for t in episodes[48:]}
    solved = {t.task: 0.5 for t in played(lab.folder / "outputs/bank-demos", "demos")}  # in the order of the tasks
    for task in {t.task for t in first}:
        outcomes = [t.outcome for t in first if t.task == task]
        solved[task] = sum(outcomes) / len(outcomes)
    assert len({t.task for t in first}) == 6 and second == set(sorted(solved, key=lambda task: solved[task])[:6])


def test_a_user(lab: Lab) -> None:
    run = lab.do("hurried")
    results = read(run / "results.json")
    assert results["user"] == "custom my_lab.users:Hurried"
    episodes = played(run, "test")
    assert {t.user for t in episodes} == {"hurried"}
    refused = [t for t in episodes if int(t.task.split("-of-")[0]) > int(t.task.split("-of-")[1])]
    assert {t.stop for t in refused} == {StopReason.USER_STOP}, "it hears the balance, and leaves"


def test_a_policy(lab: Lab) -> None:
    run = lab.do("reckless")
    outcomes = {t.task: t.outcome for t in played(run, "test")}
    assert outcomes["10-of-15"] == 1.0 and outcomes["80-of-5"] == 0.0
    assert read(run / "results.json")["policy"] == "my_lab.policies:Reckless"


def test_a_stage(lab: Lab) -> None:
    results = read(lab.do("warm") / "results.json")
    assert results["outcome at 0.5"] > results["outcome at 1.5"]


def test_a_logger(lab: Lab) -> None:
    text = (lab.do("logged") / "metrics.csv").read_text()
    assert "0,test pass@1,1.0" in text and "results" in text


def test_a_package_of_choices(lab: Lab) -> None:
    shown = lab.type(COMMANDS[-1])
    assert "function: my_lab.rewards:score" in shown and "limit: 6" in shown and "- bank" in shown
