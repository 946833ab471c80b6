"""The archive for a machine with a card and no network: the project, and the packages that it may lack."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from benchmarks.gpu_check import weights
from benchmarks.gpu_check.settings import ROOT
from benchmarks.gpu_check.target import checkout_commit
from benchmarks.gpu_check.trace import Package, about, plain, traced
from benchmarks.gpu_check.wheels import fetch, unpack

LEFT = ("torch", "triton", "transformers", "tokenizers", "safetensors", "peft", "numpy", "httpx", "rich")
TESTS = ("pytest", "hypothesis")
NAME = "gpu_check"
ARCHIVE = f"{NAME}.tar.gz"


def pack(python: str, source: Path | None, part_size: int, also: Sequence[str], out: Path) -> int:
    """Write the archive, and the parts of the weights where `source` is given, into the folder `out`.

    `also` are packages to pack that would be left to the target. Returns the exit status.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            parts = weights.split(source, part_size, scratch, out) if source else []
            packages = traced(scratch, out.resolve())
            left = _left(packages, {plain(package) for package in also})
            asked = _brought([*_project_needs(), *map(Requirement, also)]) - left
            mine = {name: package for name, package in packages.items() if name in asked}
            tree = scratch / NAME
            _project(tree)
            _site(mine, python, scratch, tree / "packed" / "site")
            manifest = {"commit": checkout_commit(), "python": python, "left": _wants(left, packages, mine)}
            manifest["packed"] = {name: package.distribution.version for name, package in mine.items()}
            (tree / "packed" / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            with tarfile.open(out / ARCHIVE, "w:gz") as tar:
                tar.add(tree, NAME)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _tell(manifest, [out / ARCHIVE, *parts])
    return 0


def _left(packages: Mapping[str, Package], also: set[str]) -> set[str]:
    """What is left to the target: LEFT, and of what those bring whatever the project does not ask for itself."""
    ours = {plain(need.name) for need in _project_needs()} - set(LEFT)
    found = _brought(map(Requirement, LEFT), ours | also)
    return {name for name in found if name in packages or name in LEFT}


def _project_needs() -> list[Requirement]:
    """What the project asks for, and its tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = [text for text in project["optional-dependencies"]["dev"] if text.startswith(TESTS)]
    return [Requirement(text) for text in (*project["dependencies"], *tests)]


def _brought(needs: Iterable[Requirement], without: Iterable[str] = ()) -> set[str]:
    """The names of these requirements and of all that they bring, but for those `without` and what only those bring."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = list(needs)
    while waiting:
        need = waiting.pop()
        name = plain(need.name)
        if name not in without:
            found.add(name)
            asked = {(name, extra) for extra in ("", *need.extras)} - done
            done |= asked
            waiting += [deeper for _, extra in asked for deeper in _needs(name, extra)]
    return found


def _needs(name: str, extra: str = "") -> list[Requirement]:
    """The requirements of an installed package that hold here; none of one that is not installed."""
    try:
        texts = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    needs = [Requirement(text) for text in texts]
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def _wants(left: Iterable[str], packages: Mapping[str, Package], mine: Mapping[str, Package]) -> dict[str, Any]:
    """Of each package that is left: whether the run imported it, and which versions what is packed asks for."""
    asked = [("tau2_exp", need) for need in _project_needs()]
    asked += [(name, need) for name in mine for need in _needs(name)]
    return {
        name: {
            "imported": name in packages,
            "wanted": [(str(need.specifier), by) for by, need in asked if plain(need.name) == name and need.specifier],
        }
        for name in sorted(left)
    }


def _project(tree: Path) -> None:
    """The project's files: those that git tracks, and new ones that it does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            _copy(ROOT / name, tree / name)


def _site(packages: Mapping[str, Package], python: str, scratch: Path, site: Path) -> None:
    """The packages' files: whole wheels for the target's Python of compiled ones, of others the folders that are used.

    A used folder goes with all its modules: another version of Python may import another one of them.
    """
    here = ".".join(platform.python_version_tuple()[:2])
    compiled = [package for package in packages.values() if _compiled(package)] if python != here else []
    for wheel in fetch([(p.name, p.distribution.version) for p in compiled], python, scratch / "wheels"):
        unpack(wheel, site)
    for package in packages.values():
        if package in compiled:
            continue
        folders = {file.parent for file in package.used}
        for file in package.files:
            sibling = file.parent in folders and file.suffix in (".py", ".so")
            if (file in package.used or sibling or about(file)) and (package.root / file).is_file():
                _copy(package.root / file, site / file)


def _compiled(package: Package) -> bool:
    return any(file.suffix == ".so" for file in package.files)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _tell(manifest: Mapping[str, Any], files: Sequence[Path]) -> None:
    print(f"packed for Python {manifest['python']}: {', '.join(sorted(manifest['packed']))}")
    print(f"left to the target: {', '.join(name for name in LEFT if name in manifest['left'])}")
    if brought := sorted(set(manifest["left"]) - set(LEFT)):
        print(f"  and what those bring: {', '.join(brought)}")
    for path in files:
        print(f"{path.stat().st_size / weights.MEGABYTE:6.1f} MB  {path}")
