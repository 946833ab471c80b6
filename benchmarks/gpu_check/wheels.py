"""Wheels of compiled packages for the target's Python, by pip and its own configuration."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

GLIBC = range(39, 16, -1)  # pip matches each version of manylinux exactly


def fetch(packages: Sequence[tuple[str, str]], python: str, folder: Path) -> list[Path]:
    """Download wheels of these names and versions, or of a later version where that one has none for this Python.

    Raises ValueError with pip's reason where there is no such wheel.
    """
    for name, version in packages:
        exact = _download(f"{name}=={version}", python, folder)
        if exact and (later := _download(f"{name}>={version}", python, folder)):
            raise ValueError(f"pip has no wheel of {name} for Python {python}: {later}")
        if exact:
            print(f"{name}: {version}, which is here, has no wheel for Python {python}: a later one is taken")
    return sorted(folder.glob("*.whl"))


def _download(requirement: str, python: str, folder: Path) -> str | None:
    """Fetch one wheel; why not, where pip finds none."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    platforms += [f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    command += [argument for name in platforms for argument in ("--platform", name)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return " ".join(reasons) or done.stderr.strip()[-300:]


def unpack(wheel: Path, site: Path) -> None:
    """What pip would put into site-packages: the wheel's files, those of its purelib and platlib too."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = Path(name).parts
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if not name.endswith("/"):
                target = site.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
