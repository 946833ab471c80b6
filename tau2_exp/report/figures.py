"""The report's charts, as plotly figures. Paper and ink are the page's, which knows whether it is dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING

from tau2_exp.report.contrasts import Family
from tau2_exp.report.curves import Course, window
from tau2_exp.report.failures import Failure, Failures
from tau2_exp.report.findings import Score
from tau2_exp.report.surfaces import Surface
from tau2_exp.report.terminal import difference_text, measured_text, p_text
from tau2_exp.report.trials import Trial
from tau2_exp.statistics import Estimate
from tau2_exp.types import StopReason

if TYPE_CHECKING:
    import plotly.graph_objects as go

# After Okabe & Ito, distinct to the colour-blind; without the black and the yellow, which vanish on one background.
COLOURS = ("#2F8FD0", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1")
_DASHES = ("solid", "dash", "dot")
_GREY = "#888888"
_STOPS = dict(zip(StopReason, ("#2F8FD0", "#009E73", "#E69F00", "#8C6BB1", "#D55E00", "#CC79A7", _GREY), strict=True))


def scores_figure(trial: Trial, scores: Sequence[Score]) -> go.Figure:
    """Each subject's measures with their intervals, and what doing nothing scores."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(trial.measures)
    labels = [_label(score.subject.label) for score in scores]
    for name, colour in zip(names, cycle(COLOURS)):
        found = [score.measures.get(name) for score in scores]
        values = [e if isinstance(e, Estimate) else None for e in found]
        figure.add_bar(
            name=name,
            orientation="h",
            y=labels,
            x=[e.value if e else None for e in values],
            error_x=reach(values),
            marker_color=colour,
            hovertext=[f"{name}: {measured_text(e)}" for e in found],
            hoverinfo="text+y",
            visible=True if len(names) < 3 or name == "pass@1" or name == names[-2] else "legendonly",
        )
    if trial.nothing:
        floor = trial.nothing.value
        figure.add_vline(x=floor, line={"dash": "dot", "color": _GREY})
        text = f"doing nothing: {floor:.2f}"
        figure.add_annotation(x=floor, y=1, yref="paper", yanchor="bottom", xanchor="left", showarrow=False, text=text)
    _lay_out(figure, rows=_rows(labels, 46), top=24)
    figure.update_xaxes(range=[0, 1.02], title="share, 95 % interval")
    return figure


def curve_figure(course: Course, panel: str) -> go.Figure:
    """One figure of a stage step by step: each arm's mean over its seeds, and the band from lowest to highest."""
    import plotly.graph_objects as go

    figure = go.Figure()
    longest = 1
    for place, (arm, (colour, dash)) in enumerate(line_styles(list(course.arms)).items()):
        band = course.band(arm, panel)
        group = str(place)  # by which the page's keys find the line
        if band.seeds > 1:
            figure.add_scatter(
                x=[*band.steps, *reversed(band.steps)],
                y=[*band.high, *reversed(band.low)],
                fill="toself",
                fillcolor=colour,
                opacity=min(0.18, 0.8 / len(course.arms)),
                mode="lines",
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=group,
            )
        name, line = _label(arm or course.stage, 60), {"color": colour, "dash": dash}
        figure.add_scatter(x=band.steps, y=band.mean, name=name, legendgroup=group, mode="lines", line=line)
        longest = max(longest, len(band.steps))
    _lay_out(figure, height=300, top=40)
    width = window(longest)
    smoothed = f", mean of {width} steps" if width > 1 else ""
    figure.update_layout(
        showlegend=False, title={"text": panel.replace("part/", "part of the score: "), "font": {"size": 14}}
    )
    figure.update_xaxes(title=f"step{smoothed}", dtick=1 if longest <= 10 else None)
    return figure


def line_styles(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The colour and the dashes of each arm's curve.

    Where there are more arms than colours, the colour shows one part of the settings and the dashes the other, if
    there are enough of both.
    """
    parts = [arm.rpartition(" ") for arm in arms]
    by_dash, by_colour = sorted(([before for before, *_ in parts], [last for *_, last in parts]), key=_variety)
    if len(arms) > len(COLOURS) >= _variety(by_colour) and _variety(by_dash) <= len(_DASHES):
        colours = dict(zip(dict.fromkeys(by_colour), COLOURS, strict=False))
        dashes = dict(zip(dict.fromkeys(by_dash), _DASHES, strict=False))
        styles = [(colours[one], dashes[other]) for one, other in zip(by_colour, by_dash, strict=True)]
    else:
        styles = [(colour, dash) for dash in _DASHES for colour in COLOURS]
    return dict(zip(arms, cycle(styles)))


def _variety(words: Sequence[str]) -> int:
    return len(set(words))


def surface_figure(surface: Surface, scale: tuple[float, float]) -> go.Figure:
    """A measure over two settings, a cell for each arm; `scale` is what its colours span."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            x=[f"{x:g}" for x in surface.columns],
            y=[f"{y:g}" for y in surface.rows],
            z=[[cell.value if isinstance(cell, Estimate) else None for cell in row] for row in surface.cells],
            text=[[measured_text(cell).replace(" [", "<br>[") for cell in row] for row in surface.cells],
            texttemplate="%{text}",
            colorscale="Viridis",
            zmin=scale[0],
            zmax=scale[1],
            colorbar={"thickness": 10},
            hoverinfo="x+y+text",
        )
    )
    _lay_out(figure, height=150 + 70 * len(surface.rows), top=40)
    title = f"{surface.measure}{': ' + surface.facet if surface.facet else ''}"
    figure.update_layout(title={"text": escape(title), "font": {"size": 14}})
    figure.update_xaxes(type="category", title=surface.across)
    figure.update_yaxes(type="category", title=surface.down)
    return figure


def forest_figure(family: Family) -> go.Figure:
    """Differences with their intervals: thick for each alone, thin for all of the family at once."""
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = list(family.comparisons.items())
    labels = [_label(family.short(pair)) for pair, _ in rows]
    colours = [COLOURS[2 if c.difference.value > 0 else 1] if c.differs else _GREY for _, c in rows]
    for (_, c), label, colour in zip(rows, labels, colours, strict=True):
        thin, thick = {"color": colour, "width": 1.5}, {"color": colour, "width": 5}
        if c.compared > 1:
            ends = [c.low_corrected, c.high_corrected]
            figure.add_scatter(x=ends, y=[label] * 2, mode="lines", line=thin, hoverinfo="skip")
        ends = [c.difference.low, c.difference.high]
        figure.add_scatter(x=ends, y=[label] * 2, mode="lines", line=thick, opacity=0.55, hoverinfo="skip")
    figure.add_scatter(
        x=[c.difference.value for _, c in rows],
        y=labels,
        mode="markers",
        marker={"color": colours, "size": 10, "symbol": "diamond"},
        hovertext=[f"{difference_text(c)}, p {p_text(c.p_corrected)}" for _, c in rows],
        hoverinfo="text+y",
    )
    figure.add_vline(x=0, line={"color": _GREY, "width": 1})
    _lay_out(figure, rows=_rows(labels, 36))
    figure.update_layout(showlegend=False)
    reach = 1.08 * max(abs(end) for _, c in rows for end in (c.low_corrected, c.high_corrected))
    figure.update_xaxes(title=f"difference in {family.measure}", range=[-reach, reach])
    return figure


def stops_figure(failed: Sequence[tuple[Score, Failures]]) -> go.Figure:
    """Stop reasons of all episodes, by subject; light: episodes that were solved, or not scored."""
    import plotly.graph_objects as go

    figure = go.Figure()
    labels = [_label(score.subject.label) for score, _ in failed]
    for stop in StopReason:
        reason = stop.value
        if not any(found.stops[reason] for _, found in failed):
            continue
        unsolved = [found.unsolved_stops[reason] for _, found in failed]
        others = [found.stops[reason] - count for (_, found), count in zip(failed, unsolved, strict=True)]
        texts = [
            f"{reason}: {found.stops[reason]} of {found.episodes} episodes, {count} unsolved"
            for (_, found), count in zip(failed, unsolved, strict=True)
        ]
        for counts, opacity in ((unsolved, 1.0), (others, 0.4)):
            figure.add_bar(
                name=reason,
                legendgroup=reason,
                showlegend=counts is unsolved,
                orientation="h",
                y=labels,
                x=[count / found.episodes for (_, found), count in zip(failed, counts, strict=True)],
                marker={"color": _STOPS[stop], "opacity": opacity},
                hovertext=texts,
                hoverinfo="text+y",
            )
    _lay_out(figure, rows=_rows(labels, 30))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 1.005], tickformat=".0%", title="share of episodes")
    return figure


def modes_figure(failed: Sequence[tuple[Score, Failures]]) -> go.Figure:
    """The share of unsolved episodes that show each failure mode; of all episodes, for the user simulator's faults."""
    import plotly.graph_objects as go

    names = [mode.value for mode in Failure]
    counts = [[(found.modes[mode], _whole(found, mode)) for _, found in failed] for mode in Failure]
    figure = go.Figure(
        go.Heatmap(
            x=[_label(score.subject.label, 16) for score, _ in failed],
            y=names,
            z=[[count / max(whole, 1) for count, whole in row] for row in counts],
            text=[[escape(_share_text(count, whole)) for count, whole in row] for row in counts],
            hovertext=[[f"{count} of {whole} episodes" for count, whole in row] for row in counts],
            texttemplate="%{text}",
            colorscale=[[0, "#FBEFE6"], [1, "#D55E00"]],  # not transparent: the text's ink is chosen for these
            zmin=0,
            zmax=1,
            showscale=False,
            hoverinfo="x+y+text",
        )
    )
    _lay_out(figure, rows=_rows(names, 36))
    return figure


def _whole(found: Failures, mode: Failure) -> int:
    return found.episodes if mode is Failure.USER_FAULT else found.unsolved


def _share_text(count: int, whole: int) -> str:
    """In percent; what happened at all is not 0."""
    share = count / max(whole, 1)
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def reach(values: Sequence[Estimate | None]) -> dict[str, object]:
    """Plotly's error bars from each estimate to the ends of its interval; none for None."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [e.high - e.value if e else None for e in values],
        "arrayminus": [e.value - e.low if e else None for e in values],
        "thickness": 1.2,
        "width": 3,
    }


def _label(text: str, width: int = 24) -> str:
    """Text for a chart, which reads some HTML: escaped, and broken into lines."""
    return "<br>".join(escape(line) for line in wrap(text, width, break_long_words=False)) or " "


def _rows(labels: Sequence[str], least: int) -> int:
    """The height of rows with these labels on the left, each of `least` pixels or as many as the longest takes."""
    return len(labels) * max(least, *(6 + 16 * (1 + label.count("<br>")) for label in labels))


def _lay_out(figure: go.Figure, rows: int = 0, height: int = 0, top: int = 8) -> None:
    """Rows of so many pixels in all, with names on the left; or a whole figure of a height."""
    inside = height - top - 90 if height else rows
    figure.update_layout(
        template={},
        height=height or int(top + inside + 90),
        margin={"l": 8, "r": 24, "t": top, "b": 8},  # on the right stands half of the last tick's text
        legend={"orientation": "h", "yanchor": "top", "y": -52 / inside, "traceorder": "normal"},
        font={"family": "system-ui, sans-serif", "size": 12},
        bargap=0.25,
    )
    figure.update_xaxes(automargin=True, fixedrange=True)
    figure.update_yaxes(automargin=True, fixedrange=True, ticklen=6, tickcolor="rgba(0,0,0,0)", ticks="outside")
    if rows:
        figure.update_yaxes(autorange="reversed")
