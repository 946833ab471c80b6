"""The wheel: built from a checkout, installed elsewhere, it holds all that `tau2-exp` needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from flows import ROOT, read

from tau2_exp.compose.composition import compose_config
from tau2_exp.compose.listing import config_yaml

NEEDED = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "run.py", "conf", "tau2_exp")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, from a copy: what setuptools leaves behind goes with it."""
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel needs setuptools 77 or later")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, checkout / name)
    for command in ("init --quiet", "add .", "-c user.name=a -c user.email=a@b commit --quiet --message all"):
        git(checkout, *command.split())
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(checkout / "dist"), str(checkout))
    (built,) = (checkout / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed, beside this environment's packages and before its own tau2_exp."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--target", str(folder), str(wheel))
    return folder


@pytest.fixture
def tau2_exp(site: Path, tmp_path: Path) -> Command:
    """The console command, in a folder of its own."""
    return lambda *words: call([site / "bin" / "tau2-exp", *words], site, tmp_path)


def call(command: list[str | Path], path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def pip(command: str, *arguments: str) -> None:
    quiet = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *quiet, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_holds_every_file_of_the_package_and_the_groups(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        held = set(files.namelist())
    for folder, within in ((ROOT / "tau2_exp", "tau2_exp"), (ROOT / "conf", "tau2_exp/conf")):
        files_there = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        missing = {f"{within}/{path.relative_to(folder)}" for path in files_there} - held
        assert files_there and not missing


def test_it_composes_as_the_checkout_does(tau2_exp: Command) -> None:
    told = tau2_exp("run", "--cfg", "job", "experiment=smoke")
    assert told.returncode == 0, told.stderr
    assert told.stdout.rstrip() == config_yaml(compose_config(["experiment=smoke"]))
    help_text = tau2_exp("run", "--help").stdout
    assert "tau2-exp run" in help_text and "run.py" not in help_text
    refused = tau2_exp("run", "stage=nothing")
    assert refused.returncode == 2 and refused.stderr.startswith("error: stage=nothing")


def test_it_plans_freezes_and_follows(tau2_exp: Command) -> None:
    told = tau2_exp("run", "stage=demos", "name=first", "dry_run=true")
    assert told.returncode == 0, told.stderr
    assert "python -m tau2_exp work outputs/first" in told.stdout
    assert tau2_exp("freeze", "stage=demos", "name=first").stdout == "outputs/first\n"
    assert "unfinished" in tau2_exp("status", "outputs/first").stdout


def test_jobs_get_a_copy_of_it_that_stands_alone(site: Path, tmp_path: Path) -> None:
    code = "from pathlib import Path; from tau2_exp.dispatch.slurm.snapshot import snapshot; print(snapshot(Path()))"
    copied = call([sys.executable, "-c", code], site, tmp_path)
    assert copied.returncode == 0, copied.stderr
    copy = Path(copied.stdout.strip())
    assert [path.name for path in copy.iterdir()] == ["tau2_exp"]
    frozen = call([sys.executable, "-m", "tau2_exp", "freeze", "stage=demos", "name=first"], copy, tmp_path)
    assert frozen.stdout == "outputs/first\n", frozen.stderr


def test_it_tells_the_commit_that_it_was_built_from(wheel: Path, tau2_exp: Command, tmp_path: Path) -> None:
    tau2_exp("freeze", "stage=demos", "name=first")
    assert read(tmp_path / "outputs/first/manifest.json")["commit"] == git(wheel.parent, "rev-parse", "HEAD")
