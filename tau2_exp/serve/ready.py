"""The ready file, which holds a server's address once it answers, and the check of its health."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.system.private import write_private

ASK_SECONDS = 5.0  # for one answer, at most


def announce(path: Path, url: str, token: str) -> None:
    """Write where the server is, with its token, into a file that its owner alone may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps({"url": url, "pid": os.getpid(), "token": token}, indent=2) + "\n")


def withdraw(path: Path) -> None:
    """Remove the file, if it is this process's."""
    if _read(path).get("pid") == os.getpid():
        path.unlink()


def make_way(path: Path) -> None:
    """Remove the file of a server that was killed.

    Raises ConfigError where its server still runs, and where the file is not a server's.
    """
    told = _read(path)
    if path.exists() and not {"url", "pid"} <= told.keys():
        raise ConfigError(f"--ready {path}: is there, and is not a server's; name another file")
    if told and _alive(told.get("pid")):
        raise ConfigError(
            f"--ready {path}: process {told['pid']} serves {told.get('url')} there; end it, or name another file"
        )
    path.unlink(missing_ok=True)


def healthy(host: str, port: int, token: str, seconds: float = ASK_SECONDS) -> bool:
    """Whether the server generates a token within `seconds` (at most ASK_SECONDS), asked without any proxy."""
    connection = http.client.HTTPConnection(host, port, timeout=min(seconds, ASK_SECONDS))
    try:
        connection.request("GET", "/health_generate", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read(path: Path) -> dict:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _alive(pid: object) -> bool:
    """Whether the process is there and is a `serve` (a number may have passed to another)."""
    try:
        return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
