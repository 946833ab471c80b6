"""The check: its parts one after another, each in a process of its own, within the minutes given."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.gpu_check.parts import PARTS, Part
from benchmarks.gpu_check.results import Results
from benchmarks.gpu_check.settings import ROOT, Settings, environment

LEAST_SECONDS = 5.0  # with fewer a part is not begun
END_SECONDS = 30.0  # that a part's process takes to end when it has told all


class Stopped(Exception):
    """A signal told the check to end."""


def run(settings: Settings, minutes: float, names: Sequence[str], facts: dict[str, Any]) -> int:
    """Do the named parts; 0 where all that ran are done, 1 where one failed, 143 where a signal ended the check."""
    results = Results(settings.out, facts)
    chosen = [part for part in PARTS if part.name in names]
    deadline = time.monotonic() + 60 * minutes
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        for index, part in enumerate(chosen):
            left = deadline - time.monotonic()
            share = part.share / sum(later.share for later in chosen[index:])
            if left < LEAST_SECONDS:
                results.end(part.name, "skipped", "no time was left", 0)
            else:
                _Process(part, dataclasses.replace(settings, seconds=left * share), results).follow()
    except Stopped:
        _say(f"stopped; what was measured is in {settings.out}")
        return 128 + signal.SIGTERM
    statuses = {name: state["status"] for name, state in results.data["parts"].items()}
    _say(", ".join(f"{name} {status}" for name, status in statuses.items()) + f"; results in {settings.out}")
    return 1 if "failed" in statuses.values() else 0


def _stop(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Stopped


def _say(text: str) -> None:
    print(f"[check] {text}", flush=True)


class _Process:
    """One part's process, and what it tells."""

    def __init__(self, part: Part, settings: Settings, results: Results):
        self._part, self._results, self._limit = part, results, settings.seconds
        self._failed: list[str] = []
        self._begun = time.monotonic()
        results.part(part.name)
        results.write()
        _say(f"{part.title} (at most {settings.seconds:.0f} s)")
        self._records, theirs = os.pipe()
        command = [sys.executable, "-u", "-m", "benchmarks.gpu_check", "part", part.name]
        command += [settings.to_json(), str(theirs)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment(settings.device),
            stdin=subprocess.PIPE,  # closes when this process ends: the part then ends too
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)

    def follow(self) -> None:
        """Take its records until it ends or its time is up."""
        status, reason = "stopped", "the check was stopped"
        try:
            status, reason = self._follow()
        finally:
            self._kill()
            os.close(self._records)
            self._results.end(self._part.name, status, reason, time.monotonic() - self._begun)
            _say(f"{self._part.name}: {status}" + (f": {reason}" if reason else ""))

    def _follow(self) -> tuple[str, str | None]:
        begun = b""
        while (left := self._begun + self._limit - time.monotonic()) > 0:
            if not select.select([self._records], [], [], left)[0]:
                continue
            heard = os.read(self._records, 1 << 16)
            if not heard:
                try:
                    return self._ended()
                except subprocess.TimeoutExpired:
                    return "failed", f"its process did not end within {END_SECONDS:.0f} s after its last word"
            *lines, begun = (begun + heard).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return "failed", f"it was not done after {self._limit:.0f} s"

    def _take(self, record: dict[str, Any]) -> None:
        if "failed" in record:
            self._failed.append(f"{record['name']}: {record['failed']}")
        self._results.add(self._part.name, record)

    def _ended(self) -> tuple[str, str | None]:
        code = self._process.wait(timeout=END_SECONDS)
        if self._failed:
            more = f" (and {len(self._failed) - 1} more)" if len(self._failed) > 1 else ""
            return "failed", self._failed[0] + more
        if code < 0:
            return "failed", f"its process was ended by {signal.Signals(-code).name}; out of memory, if nobody ended it"
        if code:
            return "failed", f"its process ended with status {code}"
        records = self._results.part(self._part.name)["records"]
        skipped = next((record["skipped"] for record in records if "skipped" in record), None)
        return ("skipped", skipped) if skipped else ("done", None)

    def _kill(self) -> None:
        """End what is left of the part's process and of what it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self._process.wait()
            self._process.stdin.close()
