"""`python -m tau2_exp`: mistakes are one line with what would do; folders of runs and silent runs are understood."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tau2_exp.__main__ import main
from tau2_exp.compose.composition import compose_config
from tau2_exp.dispatch.local.sweep import write_sweep
from tau2_exp.runs.run import Run

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command line in a folder with outputs, in them a run and a sweep of one, and a file."""
    monkeypatch.chdir(tmp_path)
    demos = Run.create(compose_config(["stage=demos"]), "demos", Path("outputs/demos"))
    sft = Run.create(compose_config(["stage=sft"]), "sft", Path("outputs/sft"), demos)
    write_sweep(Path("outputs/study"), [(["stage=sft"], sft)], [])
    Path("file").write_text("text\n")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tau2_exp", *arguments])
        return main()

    return run


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("replay file --out nowhere/x", "nowhere/x: No such file or directory"),
        ("replay file --out outputs", "outputs: Is a directory"),
        ("replay file --out file/x", "file/x: Not a directory"),
        ("report outputs --html file", "--html file: file is a file; name a folder"),
        ("report outputs --files file/deeper", "--files file/deeper: file is a file; name a folder"),
        ("report outputs --readme file", "--readme file: the file must hold the lines <!-- pipeline -->"),
        ("report outputs --readme nowhere.md", "nowhere.md: No such file or directory"),
        ("report outputs --episodes -1", "--episodes -1: must be 0 or more"),
        ("merge outputs/demos outputs/sft --name a/b", "name=a/b: must be a name"),
        ("import file --name ../x", "name=../x: must be a name"),
        ("logs outputs", "outputs: holds runs; give one of its runs"),
        ("export outputs/study --to x", "outputs/study: is a sweep; give one of its runs"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, why: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*arguments.split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith(f"error: {why}")


def test_the_status_of_a_folder_of_runs_is_that_of_all_of_them(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("status", "outputs") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [["demos", "unfinished"], ["sft", "unfinished"]]


def test_who_worked_without_a_log_wrote_to_a_terminal(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("logs", "outputs/demos") == 0
    assert capsys.readouterr().out == "Nothing has been logged yet.\n"
    Run.open("outputs/demos").record(hardware={"device": "cpu"})
    assert command("logs", "outputs/demos") == 0
    assert capsys.readouterr().out.startswith("This run has no log file: it printed to the terminal")


def test_the_logs_of_a_pipeline_are_those_of_its_stages(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    demos = Run.open("outputs/demos")
    Run.create(compose_config(["stage.stages=[demos]"]), "all", Path("outputs/all"), members=[demos])
    for empty in (None, "outputs/demos/logs/worker.log"):
        if empty:
            (demos.folder / "logs").mkdir()
            Path(empty).touch()
        assert command("logs", "outputs/all") == 0
        assert capsys.readouterr().out == "No output yet; its stages: demos unfinished.\n"
    demos.finish({})
    (demos.folder / "logs/worker.log").write_text("demos: 2 of 2\n")
    assert command("logs", "outputs/all") == 0
    assert "demos: 2 of 2" in capsys.readouterr().out


@pytest.mark.usefixtures("command")
def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tau2_exp", "report", "outputs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
