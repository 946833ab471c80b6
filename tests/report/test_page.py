"""The whole page in a real browser, from disk: every chart drawn, nothing asked of a network, text that stays text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser
from studies import Study, config

from tau2_exp.report import readme
from tau2_exp.report.collect import collect
from tau2_exp.report.command import choose
from tau2_exp.report.drawings import write_drawings
from tau2_exp.report.figures import scores_figure
from tau2_exp.report.findings import Findings, find, find_failures
from tau2_exp.report.html import chart, script_json, table
from tau2_exp.report.page import write_page
from tau2_exp.rundir import Run

pytest.importorskip("plotly", reason="plotly is not installed (the extra 'report')")
TITLES = (
    "In short,Scores,Differences,Learning curves,How episodes fail,The published table,Cost and time,Episodes".split(
        ","
    )
)
ROOT = Path(__file__).resolve().parents[2]
NASTY = "gpt</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"


@pytest.fixture(scope="module")
def findings(study: Study) -> Findings:
    return find(collect([study.outputs]))


@pytest.fixture(scope="module")
def page(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as the command makes it."""
    folder = tmp_path_factory.mktemp("page") / "html"
    command = [sys.executable, "-m", "tau2_exp", "report", str(study.outputs), "--html", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "telecom test, grpo: arms against outcome" in done.stdout and f"page: {folder}/index.html" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"index.html", "data", "episodes"}
    return folder / "index.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop, light", "phone, dark"])
def test_it_opens_from_disk_and_draws_everything(browser: Browser, page: Path, width: int, dark: bool):
    shown = browser.open(page.as_uri(), width=width, dark=dark)
    titles = shown.run("[...document.querySelectorAll('h2')].map(e => e.textContent)")
    assert titles == TITLES
    for place in range(shown.run("document.querySelectorAll('.chart').length")):
        shown.run(f"document.querySelectorAll('.chart')[{place}].scrollIntoView()")
        shown.wait_for(f"document.querySelectorAll('.chart')[{place}].querySelector('svg.main-svg')")
    shown.wait_for("document.querySelector('.viewer [role=option]')")
    assert shown.run("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert "1 better, none worse, 1 not told apart" in shown.text("#answer")
    assert "one arm is better than every other" in shown.text("#answer")
    ink = shown.run("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
    assert (sum(map(int, ink[4:-1].split(","))) > 3 * 128) == dark, "charts are light on dark, and dark on light"
    assert {address.partition(":")[0] for address in shown.requested()} <= {"file", "data", "blob"}
    assert shown.errors() == []


def test_text_that_is_not_ours_stays_text(browser: Browser, tmp_path: Path):
    """The name of a model is the user's; it comes up in charts, tables, sentences and data."""
    made = Study(tmp_path / "runs", tasks=3)
    first = made.evaluate(made.train("sft", 0, None, 0.5))
    for place, name in enumerate((NASTY, f"other {NASTY}")):
        settings = config("eval")
        settings.policy.kind, settings.policy.model = "litellm", name
        run = Run.create(settings, f"{place}" * 64, tmp_path / "runs" / f"api{place}")
        run.record(provider=first.manifest.provider)
        run.finish(first.results)
    found = find(collect([tmp_path / "runs"]))
    shown = browser.open(write_page(found, find_failures(found), tmp_path).as_uri())
    shown.wait_for("document.querySelector('#scores svg.main-svg')")
    assert shown.run("[window.hacked, document.images.length].join()") == ",0"
    assert NASTY in shown.run("document.querySelector('#costs').textContent")
    assert "window.hacked" in shown.run("document.querySelector('#scores .main-svg').textContent")


@pytest.mark.usefixtures("browser")
def test_a_readme_gets_its_diagram_and_chart_from_the_runs(findings: Findings, tmp_path: Path):
    file = tmp_path / "README.md"
    file.write_text(f"# Ours\n{readme.BEGIN}\nold\n{readme.END}\nmore\n")
    for _ in range(2):  # once more changes nothing
        written = readme.write_readme(findings, file)
        text = file.read_text()
    assert text.startswith(f"# Ours\n{readme.BEGIN}\n```mermaid\nflowchart LR\n") and text.endswith("\nmore\n")
    assert "old" not in text and text.count("```") == 2
    assert text.count("<b>grpo ") == 3 and text.count(" --> ") == 3 and text.count("telecom test: 12 tasks") == 4
    drawing = written[1].read_text()
    assert written[1] == tmp_path / "docs" / "results.svg" and drawing.startswith("<svg")
    assert "telecom test, 12 tasks" in drawing and "(nothing)" in drawing


@pytest.mark.usefixtures("browser")
def test_charts_for_documents_are_svg_files(findings: Findings, tmp_path: Path):
    names = [path.stem for path in write_drawings(findings, tmp_path)]
    assert "differences-telecom-test-grpo-arms-against-outcome" in names and "curve-sft-telecom-loss" in names
    assert len(names) == len(list(tmp_path.glob("*.svg"))) == 2 + 6 + 4 + 1
    drawing = (tmp_path / "scores-telecom-test.svg").read_text()
    assert drawing.startswith("<svg") and drawing.endswith("</svg>\n") and "doing nothing: 0.00" in drawing


def test_json_in_a_page_cannot_end_its_script():
    assert "<" not in script_json({"text": NASTY}) and NASTY.startswith("gpt")
    assert "<script>" not in table([NASTY], [[NASTY]])


def test_a_charts_data_is_the_findings(findings: Findings):
    trial = findings.collection.trials[0]
    figure = scores_figure(trial, findings.of(trial))
    assert list(figure.data[1].x) == [score.measures["pass@1"].value for score in findings.of(trial)]
    assert "Plotly" not in chart(figure), "the library is in the page once, and not in its charts"


def test_the_viewer_has_evaluations_first_and_says_what_it_lacks(findings: Findings):
    collection = findings.collection
    everything, note = choose(collection, 10_000)
    assert len(everything) == len(collection.runs) and not note
    some, note = choose(collection, 300)
    assert {found.run.stage for found in some if found.run.folder.joinpath("trajectories").exists()} == {"eval"}
    assert note.startswith("1,200 episodes are not in this page")


def test_mistakes_are_one_line(tmp_path: Path):
    command = [sys.executable, "-m", "tau2_exp", "report", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "holds no run and no sweep" in done.stderr
