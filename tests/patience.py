"""Waiting for what comes when it comes: a test's verdict must not depend on how busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600.0  # seconds for anything that a test waits for; what never comes fails after them


def wait_until(come: Callable[[], object], what: str = "what was waited for", poll: float = 0.02) -> None:
    """Return as soon as `come` is true. Raises AssertionError, naming `what`, where it is not in time."""
    deadline = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(poll)
