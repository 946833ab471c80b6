"""The report as one HTML page that opens from disk: charts, tables and the trajectory viewer, no network."""

from __future__ import annotations

from html import escape
from importlib import resources
from os.path import normpath
from pathlib import Path

from tau2_exp.config import TASK_REVISION, ConfigError
from tau2_exp.report import sections
from tau2_exp.report.episodes import check_replaceable as check_episodes_replaceable
from tau2_exp.report.files import FILES
from tau2_exp.report.findings import Findings
from tau2_exp.report.html import paragraph, script_json, section
from tau2_exp.report.viewer import viewer_markup, viewer_script, viewer_style
from tau2_exp.system.ours import refuse_strangers

PAGE = "index.html"
EPISODES = "episodes"  # the folder of episode data beside the page
_GENERATOR = '<meta name="generator" content="tau2_exp">'


def check_replaceable(folder: Path) -> None:
    """Raises ConfigError where a page in `folder` would take the place of anything that we did not make."""
    page = folder / PAGE
    if page.exists() and _GENERATOR not in page.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--html {folder}: {page} was not made by this command; move it, or name another place")
    refuse_strangers(folder / "data", FILES, "--html")
    check_episodes_replaceable(folder / EPISODES)


def write_page(findings: Findings, failed: sections.Failed, folder: Path, note: str = "") -> Path:
    """Write index.html into `folder`; `note` says which episodes the viewer lacks."""
    entries = {
        "answer": ("Summary", sections.answers_section(findings)),
        "scores": ("Scores", sections.scores_section(findings)),
        "differences": ("Differences", sections.differences_section(findings)),
        "sweeps": ("Sweeps", sections.sweeps_section(findings)),
        "curves": ("Learning curves", sections.curves_section(findings)),
        "failures": ("Failure modes", sections.failures_section(failed)),
        "reference": ("Published results", sections.reference_section(findings)),
        "costs": ("Cost and time", sections.costs_section(findings)),
        "episodes": ("Episodes", [paragraph(note)] * bool(note) + [viewer_markup(EPISODES)]),
    }
    shown = {name: entry for name, entry in entries.items() if entry[1]}
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in shown.items())
    body = "".join(section(name, title, *parts) for name, (title, parts) in shown.items())
    page = folder / PAGE
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(_document(findings, links, body), encoding="utf-8")
    return page


def _document(findings: Findings, links: str, body: str) -> str:
    from plotly.offline import get_plotlyjs

    runs = findings.collection.runs
    made = f"{len(runs)} runs, tasks {TASK_REVISION}" + (
        f", started {runs[0].run.manifest.created[:10]}" if runs else ""
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>tau2_exp report</title>'
        f"{_GENERATOR}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_read('page.css')}\n{viewer_style()}</style></head><body>\n"
        f"<header><h1>Report</h1>{paragraph(made, 'soft')}{paragraph(_origin(findings), 'soft')}</header>\n"
        f"<nav><div>{links}</div></nav>\n<main>{body}</main>\n"
        "<footer>Intervals are at 95 %. All numbers are in the folder <code>data</code> beside this page.</footer>\n"
        f'<script type="application/json" id="templates">{script_json(_templates())}</script>\n'
        f'<script type="text/plain" id="plotly">{get_plotlyjs()}</script>\n'
        f"<script>{_read('page.js')}</script>\n"
        f"<script>{viewer_script()}</script>\n</body></html>\n"
    )


def _origin(findings: Findings) -> str:
    """The folders that the runs lie in, relative where they were given so, and the commits that made them."""
    runs = [found.run for found in findings.collection.runs]
    folders = sorted({normpath(run.folder.parent) for run in runs})
    known = {run.manifest.commit for run in runs if run.manifest.commit}
    commits = sorted({commit[:7] + "+changes" * commit.endswith("+changes") for commit in known})
    return f"runs in {', '.join(folders)}" + (f", made at commit {', '.join(commits)}" if commits else "")


def _templates() -> dict[str, object]:
    """plotly's own light and dark looks, on the page's paper."""
    import plotly.io

    found = {}
    for name, base in (("light", "plotly_white"), ("dark", "plotly_dark")):
        template = plotly.io.templates[base].to_plotly_json()
        template["layout"] |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
        found[name] = template
    return found


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text(encoding="utf-8")
