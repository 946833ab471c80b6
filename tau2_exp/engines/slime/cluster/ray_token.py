"""The secret of a run's Ray: without it, whoever reaches a node's ports could run code there.

It lies in the run's folder for as long as the head is up, readable by its owner alone. A Ray without tokens
(before 2.52) ignores it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tau2_exp.system.private import write_private

FILE = "servers/ray.token"


@contextmanager
def fresh_token(folder: Path) -> Iterator[None]:
    """Write a new token into the run's folder, and remove it when the block ends."""
    path = folder / FILE
    write_private(path, secrets.token_hex(32))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def settings(folder: Path) -> dict[str, str]:
    """The environment of Ray's processes: the path of the token, not the token itself."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str((folder / FILE).resolve())}


def headers(folder: Path) -> dict[str, str]:
    """The HTTP headers of a request to Ray's dashboard."""
    return {"Authorization": f"Bearer {(folder / FILE).read_text()}"}
