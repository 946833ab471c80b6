"""The whole page in a real browser, from disk: every chart drawn, nothing asked of a network, text that stays text."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from browser import Browser
from studies import Study, config

from tau2_exp.config import ConfigError
from tau2_exp.report import readme
from tau2_exp.report.collect import collect
from tau2_exp.report.command import choose, register
from tau2_exp.report.drawings import write_drawings
from tau2_exp.report.failures import Failure, Failures
from tau2_exp.report.figures import COLOURS, line_styles, modes_figure, scores_figure, stops_figure
from tau2_exp.report.findings import Findings, find, find_failures
from tau2_exp.report.html import chart, script_json, table
from tau2_exp.report.page import write_page
from tau2_exp.report.sections import failures_section
from tau2_exp.runs.run import Run

pytest.importorskip("plotly", reason="plotly is not installed (the extra 'report')")
TITLES = "Summary,Scores,Differences,Learning curves,Failure modes,Published results,Cost and time,Episodes".split(",")
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
    shown.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.run("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    tables = "[...document.querySelectorAll('.table')]"
    assert shown.run(f"{tables}.filter(t => t.scrollWidth > t.clientWidth).length") == 0, "no cell is cut"
    assert "1 better, none worse, 1 not significantly different" in shown.text("#answer")
    assert "one arm is significantly better than every other" in shown.text("#answer")
    ink = shown.run("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
    assert (sum(map(int, ink[4:-1].split(","))) > 3 * 128) == dark, "charts are light on dark, and dark on light"
    assert {address.partition(":")[0] for address in shown.requested()} <= {"file", "data", "blob"}
    assert shown.errors() == []


def test_pressed_keys_leave_their_lines_in_every_chart(browser: Browser, page: Path):
    shown = browser.open(page.as_uri())
    shown.run("document.querySelector('#curves .grid').scrollIntoView()")
    plots = "[...document.querySelector('#curves .grid').querySelectorAll('.plot')]"
    shown.wait_for(f"{plots}.every(p => p.querySelector('svg.main-svg'))")

    def press(place: int, lines: int) -> None:
        shown.run(f"document.querySelectorAll('#curves .keys button')[{place}].click()")
        shown.wait_for(f"{plots}.every(p => p.querySelectorAll('.scatterlayer .js-line').length === {2 * lines})")

    press(0, lines=1)
    press(2, lines=2)
    press(0, lines=1)
    press(2, lines=3)
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
    assert "telecom test, 12 tasks" in drawing and "(do nothing)" in drawing


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


def test_many_arms_share_colours_and_dashes_by_what_they_are():
    arms = [f"{kind} alpha={alpha}" for kind, alpha in product(("shaped", "turn_level"), (0.1, 0.2, 0.3, 0.4))]
    styles = line_styles(arms)
    assert len(set(styles.values())) == len(arms)
    for arm, style in styles.items():
        kind, alpha = arm.split()
        assert [other for other in arms if styles[other][0] == style[0]] == [
            f"{k} {alpha}" for k in ("shaped", "turn_level")
        ]
        assert {styles[other][1] for other in arms if other.startswith(kind)} == {style[1]}
    assert list(line_styles(arms[:7]).values()) == [(colour, "solid") for colour in COLOURS]
    alone = line_styles([f"alpha={place}" for place in range(21)])
    assert len(set(alone.values())) == 21, "what does not fit still differs"


def test_why_episodes_ended_has_one_colour_a_reason(findings: Findings):
    score = findings.scores[0]
    few = Failures(episodes=4, unsolved=1, stops=Counter(user_stop=4), unsolved_stops=Counter(user_stop=1))
    more = Failures(episodes=4, unsolved=4, stops=Counter(unparsable=4), unsolved_stops=Counter(unparsable=4))
    both = [
        {bar.name: bar.marker.color for bar in stops_figure(found).data}
        for found in ([(score, few)], [(score, few), (score, more)])
    ]
    assert both[0].items() < both[1].items() and len(set(both[1].values())) == 2
    unsolved, solved = stops_figure([(score, few)]).data
    assert (unsolved.x, solved.x) == ((0.25,), (0.75,)) and solved.marker.opacity < unsolved.marker.opacity


def test_what_happened_once_is_not_shown_as_never(findings: Findings):
    found = Failures(episodes=400, unsolved=354, modes=Counter({Failure.WRONG_TOOL: 1, Failure.MISSED_ACTION: 177}))
    cells = modes_figure([(findings.scores[0], found)]).data[0]
    shown = dict(zip(cells.y, zip(cells.text, cells.hovertext, strict=True), strict=True))
    assert shown["wrong tool"] == (["&lt;1%"], ["1 of 354 episodes"])
    assert shown["missed action"] == (["50%"], ["177 of 354 episodes"]) and shown["user's tool"][0] == ["0%"]


def test_a_missing_file_of_episodes_is_told_in_words_and_not_in_zeros(findings: Findings):
    score = findings.scores[0]
    section = failures_section([(score, Failures(missing=(Path("outputs/eval/trajectories/test.jsonl"),)))])
    assert f"{score.subject.label}: outputs/eval/trajectories/test.jsonl is missing or empty" in "".join(section)
    assert "chart" not in "".join(section)


def test_the_page_names_its_folders_and_the_commits(page: Path, study: Study, findings: Findings):
    text = page.read_text(encoding="utf-8")
    assert f"runs in {study.outputs}" in text
    commits = {found.run.manifest.commit for found in findings.collection.runs} - {None}
    assert all(f"{commit[:7]}" in text for commit in commits if commit)


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


@pytest.mark.parametrize("theirs", ["index.html", "episodes/precious.txt", "data/scores.csv"])
def test_nothing_of_a_persons_is_replaced(study: Study, tmp_path: Path, theirs: str, capsys) -> None:
    """What the command itself made is: it can be given again."""
    mine = tmp_path / "page" / theirs
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(ConfigError, match=rf"--html.*{mine} was not made by this command; move it"):
        report(study.outputs, "--html", tmp_path / "page")
    assert mine.read_text() == "years of work"
    assert [path for path in (tmp_path / "page").rglob("*") if path.is_file()] == [mine]
    mine.unlink()
    for _ in range(2):
        report(study.outputs, "--html", tmp_path / "page")
    assert (tmp_path / "page/episodes/index.js").exists()


def test_tables_are_written_beside_a_persons_files_and_not_over_them(study: Study, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        report(study.outputs, "--files", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "scores.csv").stat().st_size > 100
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"--files: .*report\.json was not made"):
        report(study.outputs, "--files", other)


def report(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    given = parser.parse_args(["report", *map(str, arguments)])
    given.run(given)
