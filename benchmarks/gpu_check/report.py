"""What a part says as it goes: one line for a person, and one record for the results."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from enum import Enum
from typing import IO, Any

from benchmarks.gpu_check.results import show

Figures = Mapping[str, Any]
DETAILS = "details"  # among the figures: what only the JSON holds


class Outcome(Enum):
    done = "done"
    no_room = "no room"  # on the card
    failed = "failed"


class Report:
    """Records go to `stream` as JSON lines, which the check's own process reads."""

    def __init__(self, part: str, stream: IO[str]):
        self._part, self._stream = part, stream
        self.failures: list[str] = []

    def facts(self, **facts: Any) -> None:
        """What holds for the whole check: card, torch, driver."""
        self._send({"name": "facts", "facts": facts})

    def record(self, name: str, figures: Figures) -> None:
        shown = {key: value for key, value in figures.items() if key != DETAILS and value is not None}
        self._say(f"{name}: " + ", ".join(f"{key} {show(value)}" for key, value in shown.items()))
        self._send({"name": name, "figures": shown, "details": figures.get(DETAILS, {})})

    def fail(self, name: str, reason: str) -> None:
        self._say(f"{name}: failed: {reason}")
        self.failures.append(f"{name}: {reason}")
        self._send({"name": name, "failed": reason})

    def skip(self, reason: str) -> None:
        """Say why this part has nothing to do here."""
        self._say(f"skipped: {reason}")
        self._send({"name": "skipped", "skipped": reason})

    def attempt(self, name: str, work: Callable[[], Figures]) -> Outcome:
        """Do one measurement and record its figures. An error in it is recorded, and does not stop the next.

        That the card has no room for it is a finding, no failure.
        """
        outcome = Outcome.done
        try:
            self.record(name, work())
        except Exception as error:
            if "OutOfMemory" in reason(error):  # the engine's own error, and torch's OutOfMemoryError
                self.record(name, {"out of memory": True, DETAILS: {"reason": reason(error)}})
                outcome = Outcome.no_room
            else:
                traceback.print_exc()
                self.fail(name, reason(error))
                outcome = Outcome.failed
        free()
        return outcome

    def _say(self, text: str) -> None:
        print(f"[{self._part}] {text}", flush=True)

    def _send(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record, default=str) + "\n")
        self._stream.flush()


def reason(error: BaseException) -> str:
    """An error in one line."""
    words = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {words[:300]}"


def free() -> None:
    """Give memory of what was measured before back to the card."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
