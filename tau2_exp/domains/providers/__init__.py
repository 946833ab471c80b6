"""Where τ²-bench comes from: a data folder, tool functions, the source of schemas, the rendering of results."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tau2_exp.config import Provider
from tau2_exp.types import Role, Schema

INSTALL = "pip install inspect-evals, or τ²-bench itself (the extra 'tau2')"
_log = logging.getLogger(__name__)


class ProviderError(Exception):
    """No provider has what is needed; the message says what is missing."""


@dataclass(frozen=True)
class Toolkit:
    """One side of a domain. `make` puts the tools on a database; `model` parses the data file into one."""

    make: Callable[[Any], Any]
    model: type[Any]
    data: str  # the database's file
    tools: tuple[str, ...]
    schemas: Callable[[], list[Schema]]
    render: dict[str, Callable[[Any], str]] = field(default_factory=dict)  # tools whose results need their own


class Source(Protocol):
    """A provider: `name` with its version, `revision` of the tasks, `data`, and the toolkits of a domain."""

    name: str

    @property
    def revision(self) -> str:
        """The revision of the tasks."""
        ...

    @property
    def data(self) -> DataFolder:
        """τ²-bench's data files."""
        ...

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of the domains it has tools for."""
        ...

    def toolkits(self, domain: str) -> dict[Role, Toolkit]:
        """The toolkits of a domain, by side. Raises ProviderError where there are none."""
        ...


@dataclass(frozen=True)
class DataFolder:
    """τ²-bench's data files, also where they are packed (.gz) or renamed (.md → .txt)."""

    root: Path

    def read(self, name: str) -> str:
        """A file's text. Raises ProviderError naming the file where it is missing."""
        path = self.root / name
        for candidate in (path, path.with_suffix(".txt") if path.suffix == ".md" else path):
            if candidate.is_file():
                return candidate.read_text(encoding="utf-8")
        packed = path.with_name(path.name + ".gz")
        if packed.is_file():
            return gzip.decompress(packed.read_bytes()).decode("utf-8")
        raise ProviderError(f"τ²-bench's data file {name} is missing in {self.root}")


def find_source(choice: str) -> Source:
    """The provider of that name; for `auto` sierra's package where it is installed, else inspect-evals.

    Raises ProviderError saying what is missing, or that an unrelated package of the same name is installed.
    """
    if choice != Provider.inspect:
        if sierra_installed():
            from tau2_exp.domains.providers.sierra import SierraSource

            return SierraSource()
        stranger = wrong_tau2()
        if choice == Provider.sierra:
            raise ProviderError(f"provider=sierra: {stranger or 'the package tau2 is not installed'}; {INSTALL}")
        if stranger:
            _log.warning("%s; using inspect-evals", stranger)
    if importlib.util.find_spec("inspect_evals") is None:
        raise ProviderError(f"no provider of τ²-bench is installed; {INSTALL}")
    from tau2_exp.domains.providers.inspect import InspectSource

    return InspectSource()


def sierra_installed() -> bool:
    """Whether the importable `tau2` is τ²-bench; decided without importing it."""
    return any((folder / "registry.py").is_file() for folder in _tau2_folders())


def wrong_tau2() -> str | None:
    """Names the unrelated package that PyPI calls tau2, where that is what is installed."""
    if not _tau2_folders() or sierra_installed():
        return None
    try:
        summary = importlib.metadata.metadata("tau2")["Summary"]
    except importlib.metadata.PackageNotFoundError:
        summary = "of unknown origin"
    return f"the installed package tau2 ({summary}) is not τ²-bench"


def _tau2_folders() -> list[Path]:
    spec = importlib.util.find_spec("tau2")
    if spec is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations or []]
