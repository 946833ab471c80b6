"""Every snippet of the README and of docs/ works as it stands there.

A page's commands are taken in order, in one folder that has a small finished pipeline in outputs/first. A rule for each
program says what is checked: `run.py` plans the command and freezes the runs that it names, so that later commands find
them; other commands are parsed by the parser that would get them; Python runs.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, run_py
from snippets import blocks, commands

from tau2_exp.__main__ import make_parser
from tau2_exp.compose.composition import compose_config
from tau2_exp.dispatch.dry_run import freeze_only
from tau2_exp.dispatch.launch import launch
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.runs.run import Run, RunStatus

# The snippets of extending.md are files of a package of one's own; a test of theirs runs them.
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "extending.md")]
SHELL = {"export", "hf", "pip", "python3", "set", "source", "wandb"}  # neither ours nor run here
PYTHON = {"python", ".venv/bin/python"}
SMALL = (
    "stage.stages=[demos,sft,grpo]",
    "domain.limit=2",
    "stage.sft.epochs=20",
    "stage.grpo.prompts_per_step=2",
    "stage.grpo.samples_per_prompt=2",
    "stage.eval.greedy=false",
)
LLAMA = ModelShape(vocab_size=9, layers=1, width=8, heads=1, kv_heads=1, head_dim=8, ffn=8, family="llama")
CONVERSATION = '{"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}\n'


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a small pipeline, as `python run.py name=first` leaves them."""
    folder = tmp_path_factory.mktemp("reader")
    done = run_py("experiment=smoke", "name=first", *SMALL, outputs=folder / "outputs")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def reader(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where one page's reader works, at home: a checkout and SmolLM2, as far as commands look at them."""
    folder = tmp_path / "reader"
    shutil.copytree(first, folder)
    for name in ("launchers", "benchmarks", "tests", ".env.template", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    model = folder / ".cache" / "tau2_exp" / "smollm2-135m-instruct"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(LLAMA.to_hf()))
    for name in ("model.safetensors", "tokenizer.json"):
        (model / name).touch()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_what_the_programs_take(page: Path, reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "bash"):
        for line, words in commands(block):
            try:
                follow(line, words, block)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{page.name}: {line.strip()}: {error}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, reader: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
        for name in re.findall(r"^def (\w+)", block, re.MULTILINE):
            call(names[name])


def test_each_page_of_commands_is_seen() -> None:
    assert sum(1 for block in blocks(PAGES[0], "bash") for _ in commands(block)) > 12
    assert sum(1 for page in PAGES for block in blocks(page, "bash") for _ in commands(block)) > 40


# ---------------------------------------------------------------- the rules


def follow(line: str, words: list[str], block: str) -> None:
    """Check one command by the rule of its program; raises where it is wrong."""
    program, *rest = words
    if program in PYTHON and rest[:1] == ["run.py"]:
        plan(rest[1:])
    elif program in PYTHON and rest[:2] == ["-m", "tau2_exp"]:
        make_parser().parse_args(rest[2:])
    elif program in PYTHON and (rest[:2] == ["-m", "pytest"] or rest[:1][0].endswith(".py")):
        assert all(Path(word).exists() for word in rest if "/" in word), "no such file"
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", Path("Makefile").read_text(), re.MULTILINE), "no such target"
    elif program.startswith("launchers/"):
        assert Path(program).is_file(), "no such launcher"
        if rest not in ([], ["bash"]):
            follow(line, rest, block)
    elif program == "cp":
        assert Path(rest[0]).is_file(), "no such file"
    elif program == "echo":
        subprocess.run(["bash", "-c", line], check=True)
    else:
        assert program in SHELL, "no rule for this program"
        if "--local-dir" in rest:
            download(rest[rest.index("--local-dir") + 1], block)


def plan(arguments: list[str]) -> None:
    """Plan a command of run.py, and freeze the run that it names."""
    # `first` is here already, as a smaller pipeline than the page's command makes.
    overrides = [word for word in arguments if "=" in word and word != "name=first"]
    flags = [word for word in arguments if "=" not in word]
    if flags[:1] == ["--cfg"]:
        compose_config(overrides)
        return
    assert flags in ([], ["-m"]), "no rule for these flags"
    for parent in (text.removeprefix("parent=") for text in overrides if text.startswith("parent=outputs/")):
        finish(Run.open(parent))
    given = [] if any(text.startswith("dry_run=") for text in overrides) else ["dry_run=true"]
    assert launch([*overrides, *given], flags == ["-m"], []) == 0
    name = next((text.partition("=")[2] for text in overrides if text.startswith("name=")), None)
    if name and not flags and not (Path("outputs") / name).exists():
        freeze_only(overrides, [])


def finish(run: Run) -> None:
    """What a reader has done by then: the frozen run, and all that it depends on, are finished."""
    for needed in (*run.members, *([run.parent] if run.parent else [])):
        finish(needed)
    if run.status is not RunStatus.finished:
        run.finish({"model": "checkpoints/last"})


def download(folder: str, block: str) -> None:
    """The files of a folder that the same snippet reads later."""
    for name in re.findall(rf"{re.escape(folder)}/[\w./-]+", block):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(CONVERSATION)


def call(function: Any) -> None:
    """Call a function that a page defines, with what its parameters are called."""
    run = Run.open("outputs/first-grpo")
    known = {"trajectory": next(iter(run.trajectories())), "config": run.config.reward}
    assert function(**{name: known[name] for name in inspect.signature(function).parameters}) is not None
