"""Which files of which packages a CPU run of the check opens or imports."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu_check.parts import NAMES
from benchmarks.gpu_check.settings import ROOT, environment

MINUTES = 20.0  # most of it unused, on a machine that is not busy
LISTENER = '''
"""Python runs this in every process of the traced run: it notes the files that are opened or loaded."""
import os, sys

_file = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_seen = set()


def _heard(event, given):
    if event in ("open", "import") and len(given) > 1:
        path = given[event == "import"]
        if isinstance(path, (str, bytes)):
            path = os.fsdecode(path)
            if os.sep in path and path not in _seen:
                _seen.add(path)
                os.write(_file, os.fsencode(path) + b"\\n")


sys.addaudithook(_heard)
'''


@dataclass
class Package:
    """An installed distribution, and which of its files the run used, relative to the folder it lies in."""

    distribution: importlib.metadata.Distribution
    root: Path
    used: set[Path] = field(default_factory=set)

    @property
    def name(self) -> str:
        return plain(self.distribution.metadata["Name"])

    @property
    def files(self) -> list[Path]:
        """All its files within `root`; scripts and the like lie elsewhere."""
        listed = [Path(str(file)) for file in self.distribution.files or []]
        return [file for file in listed if ".." not in file.parts and not file.is_absolute()]


def traced(scratch: Path, weights: Path) -> dict[str, Package]:
    """The packages that a tiny run of the check on this CPU uses, by name. `weights` is the folder of their parts.

    Raises ValueError where the run fails.
    """
    log, listener = scratch / "opened", scratch / "listener"
    listener.mkdir()
    (listener / "sitecustomize.py").write_text(LISTENER.format(log=str(log)))
    variables = environment("cpu")
    variables["PYTHONPATH"] = f"{listener}:{variables['PYTHONPATH']}"
    command = [sys.executable, "-m", "benchmarks.gpu_check", "run", "--device", "cpu", "--tiny"]
    command += ["--minutes", str(MINUTES), "--parts", ",".join(NAMES), "--out", str(scratch / "run")]
    command += ["--weights", str(weights)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=False)
    if done.returncode:
        raise ValueError("the check does not run on this CPU: its last lines above say which part failed, and why")
    return _by_package({Path(line) for line in log.read_text().splitlines()})


def _by_package(opened: set[Path]) -> dict[str, Package]:
    used = {_source(path) for path in opened}
    packages: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        package = Package(distribution, Path(str(distribution.locate_file(""))))
        package.used = {file for file in package.files if package.root / file in used and not about(file)}
        if package.used:
            packages.setdefault(package.name, package)
    return packages


def _source(path: Path) -> Path:
    """The module's source, where its compiled form was read."""
    if path.suffix == ".pyc" and path.parent.name == "__pycache__":
        return path.parent.parent / f"{path.name.split('.')[0]}.py"
    return path


def about(file: Path) -> bool:
    """Whether a file is of a package's metadata, which anyone who lists packages reads."""
    return file.parts[0].endswith((".dist-info", ".egg-info"))


def plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
