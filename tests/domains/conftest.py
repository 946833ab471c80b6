"""Where the recorded answers of τ²-bench lie, and which providers are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tau2_exp.config import Provider
from tau2_exp.domains import TauDomain, load_domain
from tau2_exp.domains.providers import sierra_installed

PARITY = Path(__file__).parents[3] / "shared" / "parity"


@pytest.fixture
def parity() -> Callable[[str], Any]:
    """Reads a file of what τ²-bench itself answered."""

    def read(name: str) -> Any:
        path = PARITY / name
        if not path.is_file():
            pytest.skip(f"no recorded parity data: {name} is not in ../shared/parity")
        return json.loads(path.read_text())

    return read


@pytest.fixture(params=[Provider.inspect, Provider.sierra], ids=lambda provider: provider.value)
def load(request: pytest.FixtureRequest) -> Callable[[str], TauDomain]:
    """Loads a domain from each provider in turn."""
    if request.param is Provider.sierra and not sierra_installed():
        pytest.skip("τ²-bench's own package (the extra 'tau2') is not installed")
    return lambda name: load_domain(name, request.param)
