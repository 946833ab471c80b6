"""What a run's folder holds of the runs that it was made from: once it is finished, it needs none of their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.jsonl import write_json
from tau2_exp.runs.manifest import Manifest

FILE = "ancestors.json"


@dataclass(frozen=True)
class Ancestor:
    """A run as it was when another was made from it."""

    manifest: Manifest
    config: dict[str, Any]


def write_ancestors(folder: Path, ancestors: Iterable[Ancestor]) -> None:
    """Write ancestors.json, each ancestor once; no file where there are none."""
    by_address = {one.manifest.address: one for one in ancestors}
    if by_address:
        write_json(folder / FILE, {"ancestors": [encode(one) for one in by_address.values()]})


def read_ancestors(folder: Path) -> dict[str, Ancestor]:
    """The ancestors in a run's folder, by address; empty without the file. Raises ConfigError for a damaged file."""
    try:
        listed = json.loads((folder / FILE).read_text())["ancestors"]
        return {one.manifest.address: one for one in (decode(Ancestor, record) for record in listed)}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / FILE}: cannot be read ({error})") from None


def folders_with(address: str, *places: Path) -> Iterator[Path]:
    """The run folders directly in these places whose run has this address."""
    for place in dict.fromkeys(places):
        for path in sorted(place.glob("[!.]*/manifest.json")):
            if not path.parent.is_symlink() and _address(path) == address:
                yield path.parent


def _address(manifest: Path) -> str | None:
    try:
        return json.loads(manifest.read_text()).get("address")
    except (OSError, ValueError, AttributeError):
        return None
