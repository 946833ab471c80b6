"""The diagram of a pipeline and the chart of its results in a Markdown file, from a run's own files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tau2_exp.config import ConfigError
from tau2_exp.report.arms import lineage
from tau2_exp.report.drawings import draw
from tau2_exp.report.findings import Findings
from tau2_exp.report.terminal import measured_text
from tau2_exp.report.trials import Found
from tau2_exp.runs.run import RunStatus

if TYPE_CHECKING:
    import plotly.graph_objects as go

BEGIN, END = "<!-- pipeline -->", "<!-- /pipeline -->"
_MARKED = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
CHART = Path("docs") / "results.svg"  # beside the README
_FACTS = {  # by stage: what its results say, in a few words
    "demos": "{solved} of {trajectories} solved",
    "sft": "{conversations} conversations, {steps} steps",
    "rft": "{kept} of {samples} samples kept, {steps} steps",
    "grpo": "{episodes} episodes, {steps} steps",
}


def write_readme(findings: Findings, readme: Path) -> list[Path]:
    """Put the diagram between README's marks, and the chart beside it. Raises ConfigError where there are no marks."""
    text = marked_text(readme)
    block = f"{BEGIN}\n```mermaid\n{diagram(findings)}```\n{END}"
    readme.write_text(_MARKED.sub(lambda _: block, text), encoding="utf-8")
    chart = readme.parent / CHART
    chart.parent.mkdir(exist_ok=True)
    chart.write_text(draw([results_figure(findings)])[0], encoding="utf-8")
    return [readme, chart]


def marked_text(readme: Path) -> str:
    """The file's text. Raises ConfigError where it has no marks to put the diagram between."""
    text = readme.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise ConfigError(f"--readme {readme}: the file must hold the lines {BEGIN} and {END}")
    return text


def diagram(findings: Findings) -> str:
    """A Mermaid diagram of the stages: what the first seed made in each, and the scores of all seeds' models."""
    names: dict[tuple[str, str], str] = {}
    lines = ["flowchart LR"]
    runs = sorted(findings.collection.runs, key=lambda found: len(lineage(found.run)))
    for found in runs:
        key = (found.stage, found.arm)
        if found.run.stage in _FACTS and key not in names:
            names[key] = f"n{len(names)}"
            lines.append(f'  {names[key]}["{_node(found)}"]')
    by_address = {found.run.manifest.address: found for found in runs}
    arrows: dict[str, None] = {}  # each once
    for found in runs:
        parent = by_address.get(found.run.parent.manifest.address) if found.run.parent else None
        if parent and found.run.stage in _FACTS:
            arrows[f"  {names[parent.stage, parent.arm]} --> {names[found.stage, found.arm]}"] = None
    lines += arrows
    for place, score in enumerate(findings.scores):
        value = score.measures.get("pass@1")
        name = names.get((score.subject.stage, score.subject.arm))
        if name and value is not None and score.trial.split != "train":
            told = f"{score.trial.name}: {len(score.trial.tasks)} tasks<br>pass@1 {measured_text(value)}"
            lines.append(f'  {name} -.-> e{place}["{_text(told)}"]')
    return "\n".join(lines) + "\n"


def results_figure(findings: Findings) -> go.Figure:
    """A bar chart of pass@1 of each stage on each split, with intervals, beside the score of doing nothing."""
    import plotly.graph_objects as go

    from tau2_exp.report.figures import COLOURS, reach
    from tau2_exp.statistics import Estimate

    figure = go.Figure()
    for trial, colour in zip(findings.collection.trials, COLOURS, strict=False):
        scores = [(score.subject.label, score.measures.get("pass@1")) for score in findings.of(trial)]
        rows = [("(do nothing)", trial.nothing), *scores]
        known = [(label, e) for label, e in rows if isinstance(e, Estimate)]
        figure.add_bar(
            name=f"{trial.name}, {len(trial.tasks)} tasks",
            x=[label for label, _ in known],
            y=[e.value for _, e in known],
            error_y=reach([e for _, e in known]),
            marker_color=colour,
        )
    figure.update_layout(
        height=380, margin={"t": 20}, font={"size": 14}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    figure.update_yaxes(range=[0, 1], title="pass@1, 95 % interval")
    return figure


def _node(found: Found) -> str:
    results = found.run.results if found.run.status is RunStatus.finished else {}
    try:
        facts = _FACTS[found.stage].format_map(results)
    except KeyError:
        facts = found.run.status.value
    return _text(f"<b>{' '.join(filter(None, (found.stage, found.arm)))}</b><br>{facts}")


def _text(text: str) -> str:
    return text.replace('"', "#quot;")
