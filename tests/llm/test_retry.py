"""A server that asks for a pause is left alone for that long; one that asks for too much is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate

import httpx
import pytest

from tau2_exp.llm import retry as module
from tau2_exp.llm.retry import retry


class Limited(Exception):
    def __init__(self, **headers: str):
        self.response = httpx.Response(429, headers={name.replace("_", "-"): value for name, value in headers.items()})


def pauses_of(monkeypatch: pytest.MonkeyPatch, *errors: Exception, retries: int = 4) -> list[float]:
    """The pauses until an attempt after these errors succeeds."""
    left, pauses = list(errors), []

    async def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    assert asyncio.run(retry(attempt, retries, lambda error: True)) == "done"
    return pauses


def in_seconds(seconds: int) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    "headers",
    [lambda: {"Retry_After": "45"}, lambda: {"retry_after_ms": "45000"}, lambda: {"Retry_After": in_seconds(46)}],
    ids=["seconds", "milliseconds", "date"],
)
def test_the_pause_that_is_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, headers: Callable[[], dict[str, str]]
) -> None:
    (pause,) = pauses_of(monkeypatch, Limited(**headers()))
    assert 44 < pause < 50


def test_pauses_that_are_asked_for_are_not_failures_but_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(pauses_of(monkeypatch, *[Limited(Retry_After="45")] * 6, retries=1)) == 6
    for errors in ([Limited(Retry_After="45")] * 7, [Limited(Retry_After="86400")], [Limited()] * 2):
        with pytest.raises(Limited):
            pauses_of(monkeypatch, *errors, retries=1)


def test_what_is_no_pause_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("soon", "0", "-3", formatdate(0, usegmt=True)):
        (pause,) = pauses_of(monkeypatch, Limited(Retry_After=text))
        assert pause < 1
