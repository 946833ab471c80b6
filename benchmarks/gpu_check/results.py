"""gpu_check.json and gpu_check.md: written again after every figure, so that a stopped check leaves what it had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.parts import PARTS, Part

JSON, MARKDOWN = "gpu_check.json", "gpu_check.md"
FACTS = ("card", "torch", "cuda", "driver", "python", "commit", "date", "device", "tiny", "minutes")


class Results:
    """The check's facts and its parts: status (running, done, failed, skipped, stopped), reason, seconds, records.

    A record has a name and either `figures` (shown in the table) with `details` (only in the JSON), or `failed`.
    """

    def __init__(self, out: Path, facts: dict[str, Any]):
        self._out = out
        self.data: dict[str, Any] = {**facts, "parts": {}}
        out.mkdir(parents=True, exist_ok=True)
        self.write()

    def part(self, name: str) -> dict[str, Any]:
        return self.data["parts"].setdefault(name, {"status": "running", "reason": None, "seconds": 0, "records": []})

    def add(self, name: str, record: dict[str, Any]) -> None:
        """A record of a part; one with `facts` completes the check's own (the card, the driver)."""
        if "facts" in record:
            self.data |= record["facts"]
        else:
            self.part(name)["records"].append(record)
        self.write()

    def end(self, name: str, status: str, reason: str | None, seconds: float) -> None:
        self.part(name).update(status=status, reason=reason, seconds=round(seconds, 1))
        self.write()

    def write(self) -> None:
        _replace(self._out / JSON, json.dumps(self.data, indent=1) + "\n")
        _replace(self._out / MARKDOWN, markdown(self.data))


def markdown(data: dict[str, Any]) -> str:
    """The whole of a gpu_check.json as text with one table a part."""
    lines = ["# GPU check", ""]
    lines += [f"- {name}: {data[name]}" for name in FACTS if data.get(name) is not None]
    for part in PARTS:
        if part.name in data["parts"]:
            lines += ["", *_section(part, data["parts"][part.name])]
    return "\n".join(lines) + "\n"


def _section(part: Part, state: dict[str, Any]) -> list[str]:
    reason = f": {state['reason']}" if state["reason"] else ""
    lines = [f"## {part.title}", "", f"{state['status']}{reason} ({state['seconds']} s)"]
    records = state["records"]
    for group in _alike([record for record in records if record.get("figures")]):
        columns = list(dict.fromkeys(key for record in group for key in record["figures"]))
        lines += ["", f"| {' | '.join(['what', *columns])} |", "|---" * (len(columns) + 1) + "|"]
        for record in group:
            cells = [show(record["figures"].get(column)) for column in columns]
            lines.append(f"| {' | '.join([record['name'], *cells])} |")
    failures = [record for record in records if record.get("failed")]
    if failures:
        lines += ["", *(f"- failed: {record['name']}: {record['failed']}" for record in failures)]
    return lines


def _alike(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The records in groups that make one table each: within a group a record shares figures with one before it."""
    groups: list[list[dict[str, Any]]] = []
    for record in records:
        if not groups or not any(record["figures"].keys() & other["figures"].keys() for other in groups[-1]):
            groups.append([])
        groups[-1].append(record)
    return groups


def show(value: Any) -> str:
    """A figure for a person: three digits, thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value and abs(value) < 1e-3:
            return f"{value:.1e}"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    os.replace(fresh, path)
