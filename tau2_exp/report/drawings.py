"""Charts as SVG files, for documents: drawn by plotly in a headless Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tau2_exp.config import ConfigError
from tau2_exp.report.contrasts import MANY
from tau2_exp.report.findings import Findings
from tau2_exp.report.html import script_json
from tau2_exp.report.surfaces import scale, surfaces
from tau2_exp.system.ours import note, refuse_strangers

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 180
_WIDTH = 760
_DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
async function image(figure) {
  const plot = await Plotly.newPlot(document.createElement("div"), figure.data, figure.layout);
  const url = await Plotly.toImage(plot, { format: "svg" });
  return decodeURIComponent(url.slice(url.indexOf(",") + 1));
}
(async () => {
  const drawn = [];
  for (const figure of figures) drawn.push(await image(figure));
  document.body.textContent = "drawn:" + JSON.stringify(drawn);
})();
"""


def write_drawings(findings: Findings, folder: Path) -> list[Path]:
    """The page's charts of scores, differences, sweeps and learning curves, one SVG file each.

    Raises ConfigError where one of these is there and was not made by us.
    """
    named = dict(_named(findings))
    paths = [folder / f"{name}.svg" for name in named]
    refuse_strangers(folder, [path.name for path in paths], "--svg")
    folder.mkdir(parents=True, exist_ok=True)
    note(folder, [path.name for path in paths])
    for path, drawing in zip(paths, draw(list(named.values())), strict=True):
        path.write_text(drawing, encoding="utf-8")
    return paths


def draw(figures: Sequence[go.Figure]) -> list[str]:
    """Each figure as SVG, on white. Raises ConfigError where no Chromium is installed, or where it fails."""
    from plotly.offline import get_plotlyjs

    program = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if program is None:
        raise ConfigError(f"drawing charts as SVG takes one of {', '.join(_CHROMIUM)}, and none is installed")
    for figure in figures:
        figure.update_layout(template="plotly_white", width=_WIDTH, font={"family": "system-ui, sans-serif"})
    data = script_json([figure.to_plotly_json() for figure in figures])
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figures.html"
        scripts = f"<script>{get_plotlyjs()}</script><script>{_DRAW}</script>"
        page.write_text(
            f'<meta charset="utf-8"><body><script type="application/json" id="figures">{data}</script>{scripts}</body>',
            encoding="utf-8",
        )
        flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --virtual-time-budget=60000"
        command = [program, *flags.split(), f"--user-data-dir={folder}/profile", "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    found = re.search("drawn:(.*)</body>", done.stdout, re.DOTALL)
    if found is None:
        raise ConfigError(f"{program} drew no chart: {' '.join(done.stderr.split())[-200:] or 'it said nothing'}")
    return [drawing + "\n" for drawing in json.loads(html.unescape(found[1]))]


def _named(findings: Findings) -> Iterator[tuple[str, go.Figure]]:
    """Charts by the names of their files."""
    from tau2_exp.report.figures import curve_figure, forest_figure, scores_figure, surface_figure

    for trial in findings.collection.trials:
        yield _slug(f"scores {trial.name}"), scores_figure(trial, findings.of(trial))
        found = surfaces(trial)
        for surface in found:
            name = f"sweep {trial.name} {surface.stage} {surface.facet} {surface.across} {surface.down}"
            yield _slug(name), surface_figure(surface, scale(found))
    for family in findings.families:
        if 0 < len(family.comparisons) <= MANY:
            yield _slug(f"differences {family.trial.name} {family.title}"), forest_figure(family)
    for course in findings.courses:
        for panel in course.panels:
            figure = curve_figure(course, panel)
            figure.update_layout(showlegend=True, height=360 + 20 * len(course.arms), legend={"y": -0.15})
            yield _slug(f"curve {course.title} {panel}"), figure


def _slug(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9.]+", name.lower()))
