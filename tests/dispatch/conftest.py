"""What the tests of dispatch share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import Cluster, running_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM that jobs can be sent to; skips where there is none."""
    yield from running_cluster(tmp_path_factory.mktemp("slurm"))
