"""A model server, or Ray, that was started for a run: its address, as its file in the run's folder says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.llm.secrets import keep_secret
from tau2_exp.system.quoting import setting

FOLDER = "servers"  # of a run's folder


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a run's server, and the token that it requires; None for Ray, which keeps its token in a file.

    `cluster` is where Ray's own processes meet (host:port); None for other servers.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    cluster: str | None = None


def read_server(folder: Path, name: str) -> Server:
    """The server of the run in this folder. Raises ConfigError where it is not up."""
    path = folder / FOLDER / f"{name}.json"
    try:
        told = json.loads(path.read_text())
        server = Server(told["url"], told.get("token"), told.get("address"))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: no {name} server of this run is up; {setting('resume', folder)} starts it"
        ) from None
    if server.token:
        keep_secret(server.token)
    return server
