"""The tables that are printed at the end of a run. Numbers that are not comparable have separate columns."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from tau2_exp.runs.run import Run

Labelled = tuple[str, dict[str, Any]]  # what was evaluated, and its results.json
_WIDTH = 1_000  # more than any table takes: no cell is cut short


def pipeline_table(run: Run) -> str:
    """The table of a pipeline's evaluations, in the order of its stages."""
    evaluations = [member for member in run.members if member.stage == "eval"]
    return evaluation_table([(e.parent.stage if e.parent else "eval", e.results) for e in evaluations])


def evaluation_table(evaluations: Sequence[Labelled]) -> str:
    """stage × split × measure, each with its 95 % interval, beside a row for doing nothing."""
    if not evaluations:
        return ""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    _, first = evaluations[0]
    names = _measures(evaluations)
    table = Table(box=SIMPLE_HEAD)
    for heading in ("stage", "split", "tasks", *names):
        table.add_column(heading, justify="left" if heading in ("stage", "split") else "right", no_wrap=True)
    for split, result in first["splits"].items():
        nothing = _cell(result["nothing"], result["tasks"]) if result["nothing"]["value"] is not None else "unknown"
        table.add_row("(do nothing)", split, str(result["tasks"]), *[nothing] * len(names))
    for label, results in evaluations:
        table.add_section()
        for split, result in results["splits"].items():
            cells = [_cell(result["measures"].get(name), result["tasks"]) for name in names]
            table.add_row(label, split, str(result["tasks"]), *cells)
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([_title(evaluations), *lines, *_notes(evaluations)])


def _measures(evaluations: Sequence[Labelled]) -> list[str]:
    """Those of any split: splits may have been sampled more or less often. Greedy first, then by k."""
    names = {name for _, results in evaluations for result in results["splits"].values() for name in result["measures"]}
    return sorted(names, key=lambda name: (not name.startswith("greedy"), int(re.split(r"[@^]", name)[1]), name))


def _title(evaluations: Sequence[Labelled]) -> str:
    facts = {(r["provider"], r["user"], r["temperature"]) for _, r in evaluations}
    return "; ".join(
        f"tasks: {provider}; user: {user}; temperature {number(temperature)}"
        for provider, user, temperature in sorted(facts, key=str)
    )


def number(value: float | None) -> str:
    """A number in its shortest form, or `unknown` for None."""
    return "unknown" if value is None else f"{value:g}"


def _cell(estimate: dict[str, Any] | None, tasks: int) -> str:
    """An estimate in a row of so many tasks; one that depends on others says how many."""
    if estimate is None:
        return ""
    own = f" ({estimate['tasks']} tasks)" if estimate["tasks"] != tasks else ""
    if estimate["value"] is None:
        return f"{estimate['missing']} samples missing{own}"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]{own}"


def _notes(evaluations: Sequence[Labelled]) -> list[str]:
    """What the numbers do not show: episodes that faults ended, turns that were cut short."""
    lines = []
    for label, results in evaluations:
        for split, result in results["splits"].items():
            if result["faults"]:
                counts = ", ".join(f"{source} {count}" for source, count in result["faults"].items())
                lines.append(f"{label} {split}: episodes lost to faults: {counts}")
            if unevaluated := result.get("unevaluated"):
                lines.append(f"{label} {split}: episodes that nobody evaluated, and that are missing: {unevaluated}")
            if cut := result.get("truncated", {}).get("turns"):
                episodes = result["truncated"]["episodes"]
                lines.append(f"{label} {split}: turns cut at max_tokens: {cut}, in {episodes} episodes")
    return lines
