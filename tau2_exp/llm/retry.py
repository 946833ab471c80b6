"""Trying again what fails in passing: after the pause that the server asks for, else exponential pauses with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds; doubled after each try
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 300.0  # seconds, in all, that a server may ask for; one that asks for more (a daily limit) is given up


async def retry(attempt: Callable[[], Awaitable[T]], retries: int, passes: Callable[[Exception], bool]) -> T:
    """The first success of up to 1 + `retries` attempts. Raises an error that `passes` rejects, and the last one.

    An attempt after which the server asked for a pause is not counted, but the pauses are: LONGEST_ASKED bounds them.
    """
    failures, tries, waited = 0, 0, 0.0
    while True:
        try:
            return await attempt()
        except Exception as error:
            asked = asked_pause(error)
            if not retries or not passes(error):
                raise
            failures += not asked
            waited += max(asked, 1.0) if asked else 0.0
            if failures > retries or waited > LONGEST_ASKED:
                raise
        own = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries) * random.uniform(0.5, 1.5)
        tries += 1
        await asyncio.sleep(asked + own)


def asked_pause(error: Exception) -> float:
    """The seconds that a server asks to wait (RFC 9110, Retry-After); 0 where it asks for no pause.

    `error` is of litellm or httpx, and has the headers of the response.
    """
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
    ):
        if headers and (pause := _pause(headers)) > 0:
            return pause
    return 0.0


def _pause(headers: Mapping[str, Any]) -> float:
    milliseconds, text = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return float(milliseconds) / 1000
        return 0.0 if text is None else float(text)
    except ValueError:
        pass  # a date
    try:
        return parsedate_to_datetime(str(text)).timestamp() - time.time()
    except ValueError:
        return 0.0
