"""Pieces of a page: escaped text, tables, and figures as data."""

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
    """A table's cell with a class; plain text needs none."""

    text: str
    kind: str = ""


def table(headings: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """A table; text is escaped, and each cell carries its column's heading."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row, headings))}</tr>" for row in rows)
    kind = "table wide" if len(headings) > 3 else "table"
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of escaped text; `kind` is its class."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(level: int, text: str) -> str:
    """A heading of this level, from 1, with escaped text."""
    return f"<h{level}>{escape(text)}</h{level}>"


def folded(summary: str, content: str) -> str:
    """A block that opens by a click on its summary, which is escaped; `content` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def section(name: str, title: str, *parts: str) -> str:
    """A section of the page with the id `name` and an escaped title; `parts` are HTML."""
    return f'<section id="{name}">{heading(2, title)}{"".join(parts)}</section>\n'


def chart(figure: go.Figure, caption: str = "", least: int = 0) -> str:
    """A figure as data, which the page's script draws; below a width of `least` pixels it scrolls."""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    data = script_json(figure.to_plotly_json())
    place = f"min-height:{figure.layout.height}px;min-width:{least}px"
    return (
        f'<figure class="chart">{told}<div class="plot" style="{place}"></div>'
        f'<script type="application/json">{data}</script></figure>'
    )


def keys(entries: Iterable[tuple[str, str, str]]) -> str:
    """The legend of the grid after it: each line's name, colour, and solid, dash or dot."""
    styles = {"solid": "solid", "dash": "dashed", "dot": "dotted"}
    shown = "".join(
        f'<li><button type="button" aria-pressed="false"><i style="border-top:3px {styles[dash]} {colour}"></i>'
        f"{escape(name)}</button></li>"
        for name, colour, dash in entries
    )
    return f'<ul class="keys">{shown}</ul>'


def grid(parts: Sequence[str]) -> str:
    """Pieces of HTML side by side."""
    return f'<div class="grid">{"".join(parts)}</div>'


def script_json(data: Any) -> str:
    """JSON within a script element. `<` is escaped, so that no text in it ends the element."""
    from plotly.utils import PlotlyJSONEncoder

    return json.dumps(data, cls=PlotlyJSONEncoder, separators=(",", ":")).replace("<", "\\u003c")


def _cell(cell: str | Cell, heading: str) -> str:
    """A cell with its column's heading, which narrow screens show in place of columns."""
    cell = Cell(cell) if isinstance(cell, str) else cell
    return f'<td class="{cell.kind}" data-heading="{escape(heading)}">{escape(cell.text)}</td>'
