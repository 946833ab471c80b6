"""Pieces of a page: text that stays text, tables, and figures as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Cell:
    """A table's cell with a class of its own; plain text needs none."""

    text: str
    kind: str = ""


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(level: int, text: str) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def section(name: str, title: str, *parts: str) -> str:
    return f'<section id="{name}">{heading(2, title)}{"".join(parts)}</section>\n'


def chart(figure: go.Figure, caption: str = "") -> str:
    """A figure's data, which the page's script draws; its height is kept free from the beginning."""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    data = script_json(figure.to_plotly_json())
    return (
        f'<figure class="chart">{told}<div class="plot" style="min-height:{figure.layout.height}px"></div>'
        f'<script type="application/json">{data}</script></figure>'
    )


def grid(parts: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(parts)}</div>'


def script_json(data: Any) -> str:
    """JSON that no text in it can end: `<` is written as an escape, which JSON reads as the same letter."""
    from plotly.utils import PlotlyJSONEncoder

    return json.dumps(data, cls=PlotlyJSONEncoder, separators=(",", ":")).replace("<", "\\u003c")


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="{cell.kind}">{escape(cell.text)}</td>'
