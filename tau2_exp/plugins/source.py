"""Where the source of what a user brings lies, and its hash: it is part of a run's content address.

Hashed is the file of a module that stands alone, else every .py file of its package, the outermost one: what a module
imports of its own package counts, what it imports from elsewhere (and any other file) does not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tau2_exp.config import ConfigError


@dataclass(frozen=True)
class Plugin:
    """One thing that a user brings to a run."""

    key: str  # the setting that names it
    path: str  # its dotted path
    source: str  # the hash of its source
    folder: str  # where its module or package lies

    @property
    def top(self) -> str:
        """The name of the outermost package, or of a module outside packages."""
        return self.path.partition(":")[0].partition(".")[0]

    @property
    def installed(self) -> bool:
        """Whether it was installed, as libraries are, rather than lying in a folder of the user's."""
        return Path(self.folder).name in ("site-packages", "dist-packages")


def plugin_of(key: str, path: str) -> Plugin:
    """The plugin at a dotted path, found without importing it. Raises ConfigError where there is none."""
    top = path.partition(":")[0].partition(".")[0]
    places = source_places(top, f"{key}={path}")
    return Plugin(key, path, _digest(top, places), str(places[0].parent))


def source_places(top: str, given: str) -> list[Path]:
    """The file of a module or the folders of a package, by its name. Raises ConfigError where there is none."""
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__: no other process can import it
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return [Path(place).resolve() for place in spec.submodule_search_locations]
    if spec is not None and spec.origin and Path(spec.origin).is_file():
        return [Path(spec.origin).resolve()]
    raise ConfigError(f"{given}: there is no module or package {top} in a file of its own")


def source_files(places: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each .py file, with its path from the folder that holds the module or package."""
    return [
        (file.relative_to(place.parent).as_posix(), file)
        for place in places
        for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))
        if file.is_file() and not file.name.startswith(".")  # an editor's lock may look like a module
    ]


def reach(folders: Iterable[Path | str]) -> None:
    """Make the modules in these folders importable, behind everything that already is: nothing is shadowed."""
    sys.path.extend(folder for folder in map(str, folders) if folder not in sys.path)


def reach_unchanged(plugins: Sequence[Plugin]) -> None:
    """Make a frozen run's plugins importable. Raises ConfigError where their source has changed since."""
    reach(plugin.folder for plugin in plugins)
    for plugin in plugins:
        if plugin_of(plugin.key, plugin.path).source != plugin.source:
            raise ConfigError(
                f"{plugin.key}={plugin.path}: its source has changed since this run was frozen; "
                "undo the change, or begin a new run"
            )


def _digest(top: str, places: Sequence[Path]) -> str:
    digest = hashlib.sha256(top.encode())
    for name, file in source_files(places):
        content = file.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
