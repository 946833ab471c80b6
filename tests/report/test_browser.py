"""The page in a real browser, from disk and without a network: what a person sees, clicks and types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, Page, find_chromium
from flows import ROOT, run_py
from recorded import episode, record, record_many

from tau2_exp.report.collect import collect
from tau2_exp.report.episodes import write_episodes
from tau2_exp.report.findings import find
from tau2_exp.report.page import write_page
from tau2_exp.rundir import Run
from tau2_exp.types import ToolCall, Trajectory

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
NASTY = "</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'><!-- \u2028"
GRPO = ("stage=grpo", "reward=turn_level", "reward.alpha=0.5", "reward.multipliers.telecom=1.0")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM
    with Browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two groups of one step, an evaluation, a fault, and a model that writes HTML."""
    folder = tmp_path_factory.mktemp("small")
    late = [episode("roam", 0, [0.0] * 14 + [1.0], 1.0), episode("roam", 1, [0.0] * 15)]
    nasty = episode(f"nasty {NASTY}", 0, [0.5], text=NASTY, call=ToolCall(NASTY, {NASTY: NASTY}))
    runs = [
        record(folder / "grpo", GRPO, {"rollouts": [*late, *[episode("sim", s, [0.5]) for s in (0, 1)]]}, [4]),
        record(folder / "eval", ["stage=eval"], {"test": [nasty, episode("lost", 0, [0.0], fault=True)]}),
    ]
    return make_page(runs, folder / "page")


def make_page(runs: list[Run], folder: Path) -> str:
    findings = find(collect([run.folder for run in runs]))
    write_episodes(findings.collection.runs, folder / "episodes", _modes, criteria=lambda _: None)
    return write_page(findings, [], folder).as_uri()


def _modes(trajectory: Trajectory) -> list[str]:
    return ["hallucinated tool"] if "nasty" in trajectory.task else []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page that the command writes of an evaluation by the oracle and a training run."""
    folder = tmp_path_factory.mktemp("report")
    oracle = ("stage=eval", "policy=oracle", "domain.limit=2", "domain.eval_splits=[test]", "name=oracle")
    ran = run_py(*oracle, "stage.samples_per_prompt=2", outputs=folder / "outputs")
    assert ran.returncode == 0, ran.stderr
    group = [episode("roam", s, [0.5 * s, 0.5]) for s in (0, 1)]
    run = record(folder / "outputs/grpo", GRPO, {"rollouts": group})
    for step in (1, 2, 3):
        run.log({"episodes": 2, "outcome": 0.1 * step, "shaped": 0.2 * step, "partial": 0.5}, step)
    run.close()
    command = [sys.executable, "-m", "tau2_exp", "report", str(folder / "outputs"), "--html", str(folder / "page")]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert made.returncode == 0, made.stderr
    return (folder / "page/index.html").as_uri()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone, dark"])
def test_the_whole_page_opens_from_disk(browser: Browser, report: str, width: int, dark: bool):
    page = browser.open(report, width=width, height=900, dark=dark)
    page.wait_for("document.querySelector('.viewer [role=option]')")
    charts = page.run("document.querySelectorAll('figure.chart').length")
    assert charts >= 3
    for place in range(charts):
        page.run(f"document.querySelectorAll('figure.chart')[{place}].scrollIntoView()")
        page.wait_for(f"document.querySelectorAll('figure.chart')[{place}].querySelector('svg.main-svg')")
    assert page.run("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert page.run("document.documentElement.scrollWidth") <= width
    page.run("document.querySelector('.viewer [role=option]').click()")
    page.wait_for("document.querySelector('.pane .checks')")
    assert "Environment assertions count for the outcome" in page.text(".pane .checks")
    outside = [url for url in page.requested() if not url.startswith((report.removesuffix("index.html"), "data:"))]
    assert not outside and not page.errors()


def options(page: Page) -> list[str]:
    return page.run("[...document.querySelectorAll('.viewer [role=option] .task')].map(e => e.textContent)")


def choose(page: Page, name: str, value: str) -> None:
    select = f"document.querySelector('.viewer select[name={name}]')"
    page.run(f"{select}.value = {value!r}; {select}.dispatchEvent(new Event('change'))")


def click(page: Page, text: str) -> None:
    page.run(f"[...document.querySelectorAll('.viewer button')].find(b => b.textContent === {text!r}).click()")


def opened(page: Page, task: str) -> None:
    page.wait_for(f"(document.querySelector('.pane h3') || {{}}).textContent === {task!r}")


def test_filters_leave_what_was_asked_for(browser: Browser, small: str):
    page = browser.open(small)
    page.wait_for("document.querySelector('.viewer [role=option]')")
    assert page.text(".count") == "6 of 6 episodes"
    assert "Fault of" in page.text(".filters") and "Domain" not in page.text(".filters"), "there is only one domain"
    choose(page, "outcome", "solved")
    assert options(page) == ["telecom/roam"] and page.text(".count") == "1 of 6 episodes"
    click(page, "Show all")
    choose(page, "stop", "fault")
    assert options(page) == ["telecom/lost"]
    click(page, "Show all")
    choose(page, "mode", "hallucinated tool")
    assert options(page) == [f"telecom/nasty {NASTY}"]
    click(page, "Show all")
    page.press("/")
    for letter in "SIM":
        page.press(letter)
    assert options(page) == ["telecom/sim"] * 2
    assert not page.errors()


def test_an_episode_shows_which_turn_got_its_credit(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&stage=grpo")
    page.wait_for("document.querySelector('.viewer [role=option]')")
    page.press("j")
    opened(page, "telecom/roam")
    assert "outcome 1.00 + alpha 0.50 × partial score" in page.text(".reward")
    turns = page.run("[...document.querySelectorAll('.line.turn')].map(e => e.innerText)")
    assert len(turns) == 15
    assert "Please check the status bar." in turns[14] and "actions 1.00 (+1.00)" in turns[14]
    shown = page.run("[...document.querySelectorAll('.line.turn small')].map(e => e.textContent)")
    own = [float(text.removeprefix(" (own ").removesuffix(")").replace("−", "-")) for text in shown]
    assert own.index(max(own)) == 14 and own[0] < own[7] < own[14], "what is nearer to the progress gets more of it"
    assert page.run("document.querySelectorAll('.strip .column').length") == 15
    page.press("j")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 2')")
    assert "Every turn received −0.71 for the episode as a whole" in page.text(".note")
    page.press("k")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 1')")


def test_two_attempts_side_by_side(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&open=grpo/rollouts/2")
    opened(page, "telecom/roam")
    click(page, "Compare")
    page.wait_for("document.querySelector('.of-2')")
    verdicts = page.run("[...document.querySelectorAll('.pane .verdict strong')].map(e => e.textContent)")
    assert verdicts == ["✗ failed", "✓ solved"], "a failure stands beside the best attempt"
    address = page.run("location.href")
    again = browser.open(address)
    again.wait_for("document.querySelector('.of-2')")
    click(again, "Stop comparing")
    again.wait_for("document.querySelector('.of-1')")
    choose(again, "with", "grpo/rollouts/1")
    again.wait_for("document.querySelector('.of-2')")
    assert not page.errors() and not again.errors()


def test_what_a_model_wrote_stays_text(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&open=eval/test/1")
    opened(page, f"telecom/nasty {NASTY}")
    text = page.run("document.querySelector('.pane').textContent")
    assert text.count(NASTY) >= 5, "the task, the tool's name, its arguments, its result, the turn as it was written"
    assert page.run("document.querySelectorAll('.pane script, .pane img').length") == 0
    assert page.run("window.hacked") is None
    assert not page.errors()


def test_faults_and_evaluations_say_what_they_are(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&open=eval/test/2")
    opened(page, "telecom/lost")
    assert "Fault of the user: the simulator timed out" in page.text(".pane")
    assert "it was in no group and trained nothing" in page.text(".pane")
    page.go(f"{small}#episodes&open=eval/test/99")
    page.wait_for("document.querySelector('.pane').innerText.includes('There is no episode eval/test/99')")


def test_it_fits_a_phone(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&open=grpo/rollouts/2&with=grpo/rollouts/1", width=390, height=844, dark=True)
    page.wait_for("document.querySelector('.of-2')")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("getComputedStyle(document.querySelector('.viewer .cell')).backgroundColor") != "rgb(255, 255, 255)"


def test_of_ten_thousand_episodes_it_loads_what_is_looked_at(browser: Browser, tmp_path: Path):
    address = make_page([record_many(tmp_path / "many", 10_000)], tmp_path / "page")
    page = browser.open(address)
    page.wait_for("document.querySelector('.viewer [role=option]')")
    assert page.text(".count") == "10,000 of 10,000 episodes"
    assert scripts(page) == ["index.js"], "no episode is loaded before one is looked at"
    assert len(options(page)) < 50, "only rows in sight are in the document"
    page.run("document.querySelector('.list').focus()")
    page.press("End")
    opened(page, "telecom/task 99")
    assert scripts(page) == ["index.js", "00312.js"]
    page.press("k")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 99')")
    assert scripts(page) == ["index.js", "00312.js"], "its neighbour came with it"
    (tmp_path / "page/episodes/00000.js").unlink()
    page.press("Home")
    page.wait_for("document.querySelector('.pane').innerText.includes('episodes/00000.js is missing')")


def scripts(page: Page) -> list[str]:
    return [url.rsplit("/", 1)[1] for url in page.requested() if url.endswith(".js")]
