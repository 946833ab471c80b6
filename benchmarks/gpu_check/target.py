"""What this machine lacks of what the archive leaves to it, and what is known of it without torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from benchmarks.gpu_check.settings import PACKED, ROOT


def facts() -> dict[str, Any]:
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "python": platform.python_version()}


def manifest() -> dict[str, Any]:
    """What `pack` wrote about the archive; empty in a checkout."""
    path = PACKED / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def commit() -> str | None:
    """The project's commit: the archive's, or the checkout's; None where neither is known."""
    return manifest().get("commit") or checkout_commit()


def checkout_commit() -> str | None:
    """HEAD, with "+" where files differ from it; None where there is no git."""
    if shutil.which("git") is None:
        return None
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def missing() -> Iterator[str]:
    """One line for each package that the archive leaves to this machine and that it lacks, with the mend."""
    about = manifest()
    wanted = about.get("python")
    here = ".".join(platform.python_version_tuple()[:2])
    if wanted and wanted != here:
        yield f"missing: Python {wanted}, this one is {here}: set PYTHON=python{wanted}, or pack with --python {here}"
    for name, left in about.get("left", {}).items():
        version = _version(name)
        mend = f"pip install it, or pack with --also {name}"
        if version is None and left["imported"]:
            yield f"missing: {name} (the check imports it): {mend}"
        elif version is None:
            yield f"missing: {name} (the check on a CPU did not import it; it can do without)"
        else:
            for specifier, by in left["wanted"]:
                if _outside(version, specifier):
                    yield f"other version: {name} {version} is here, {by} asks for {specifier}: if it fails, {mend}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _outside(version: str, specifier: str) -> bool:
    """Whether a version is outside a requirement; False where no package can tell."""
    if importlib.util.find_spec("packaging") is None:
        return False
    from packaging.specifiers import SpecifierSet

    return not SpecifierSet(specifier).contains(version, prereleases=True)
