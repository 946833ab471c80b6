"""Trying again what fails in passing: exponential pauses with jitter, so that many callers do not come back at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds; doubled after each try
LONGEST_PAUSE = 30.0


async def retry(attempt: Callable[[], Awaitable[T]], retries: int, passes: Callable[[Exception], bool]) -> T:
    """The first success of up to 1 + `retries` attempts. What does not pass by itself, or the last error, is raised."""
    for failures in range(retries + 1):
        try:
            return await attempt()
        except Exception as error:
            if failures == retries or not passes(error):
                raise
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable: the last attempt returns or raises")
