"""The trajectory viewer in a real browser, from disk: what a person sees, clicks and types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, Page
from recorded import compose, episode, record, record_many, turn

from tau2_exp.learning.advantage import credit_metrics, group_credit, step_scale
from tau2_exp.learning.reward import score
from tau2_exp.report.collect import collect
from tau2_exp.report.episodes import write_episodes
from tau2_exp.report.findings import find
from tau2_exp.report.page import write_page
from tau2_exp.runs.run import Run
from tau2_exp.types import Branch, Criteria, EnvAssertion, GoldAction, Role, ToolCall, Trajectory

pytest.importorskip("plotly", reason="plotly is not installed (the extra 'report')")
NASTY = "</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'><!-- \u2028"
GRPO = ("stage=grpo", "reward=turn_level", "reward.alpha=0.5", "reward.multipliers.telecom=1.0")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two groups of one step, an evaluation, a fault, and a model that writes HTML."""
    folder = tmp_path_factory.mktemp("small")
    solved, failed = (episode("roam", sample, [0.0] * 14, 1.0 - sample) for sample in (0, 1))
    last = turn(1.0, "Roaming is on.", ToolCall("enable_roaming", {"line_id": "L1"}))
    late = [replace(solved, turns=(*solved.turns, last)), replace(failed, turns=(*failed.turns, turn(0.0)))]
    nasty = episode(f"nasty {NASTY}", 0, [0.5], text=NASTY, call=ToolCall(NASTY, {NASTY: NASTY}))
    config = compose(*GRPO).reward
    credit = group_credit([(t, score(t, config)) for t in late], config)
    step = {"episodes": 4, "groups": 1, **credit_metrics([credit], step_scale([credit]))}
    runs = [
        record(folder / "grpo", GRPO, {"rollouts": [*late, *[episode("sim", s, [0.5]) for s in (0, 1)]]}, [step]),
        record(folder / "eval", ["stage=eval"], {"test": [nasty, episode("lost", 0, [0.0], fault=True)]}),
    ]
    return make_page(runs, folder / "page")


def make_page(runs: list[Run], folder: Path) -> str:
    findings = find(collect([run.folder for run in runs]))
    write_episodes(findings.collection.runs, folder / "episodes", _modes, _criteria)
    return write_page(findings, [], folder).as_uri()


def _modes(trajectory: Trajectory, _: Path) -> list[str]:
    return ["hallucinated tool"] if "nasty" in trajectory.task else []


def _criteria(trajectory: Trajectory, _: Path) -> Criteria | None:
    action = GoldAction("1", "enable_roaming", {"line_id": "L1"})
    check = EnvAssertion(Role.USER, "assert_service_status", {"expected_status": "connected"})
    return Criteria((action,), (check,), None, ("ENV_ASSERTION",)) if trajectory.task == "roam" else None


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
    assert "Fault" in page.text(".filters") and "Domain" not in page.text(".filters"), "there is only one domain"
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
    assert "Please check the status bar." in turns[0] and "It is empty." in turns[0]
    for text in ('enable_roaming(line_id="L1")', "Roaming is on.", "agent.lines.L1.roaming_enabled → true"):
        assert text in turns[14]
    assert "actions 1.00 (+1.00)" in turns[14] and "✓ reference action" in turns[14]
    shown = page.run("[...document.querySelectorAll('.line.turn small')].map(e => e.textContent)")
    own = [float(text.removeprefix(" (turn-specific ").removesuffix(")").replace("−", "-")) for text in shown]
    assert own.index(max(own)) == 14 and own[0] < own[7] < own[14], "what is nearer to the progress gets more of it"
    assert page.run("document.querySelectorAll('.strip .column').length") == 15
    checks = page.run("[...document.querySelectorAll('.check-list li')].map(e => e.textContent)")
    assert checks == [
        '✓assert_service_status(expected_status="connected") user\'s side',
        '✓enable_roaming(line_id="L1") agent\'s side, turn 15',
    ]
    page.press("j")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 2')")
    assert "What is not turn-specific a turn received for its episode" in page.text(".note")
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
    assert "Fault (user): the simulator timed out" in page.text(".pane")
    assert "no GRPO group, so no advantage" in page.text(".pane")
    page.go(f"{small}#episodes&open=eval/test/99")
    page.wait_for("document.querySelector('.pane').innerText.includes('There is no episode eval/test/99')")


def test_it_fits_a_phone(browser: Browser, small: str):
    page = browser.open(f"{small}#episodes&open=grpo/rollouts/2&with=grpo/rollouts/1", width=390, height=844, dark=True)
    page.wait_for("document.querySelector('.of-2')")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("getComputedStyle(document.querySelector('.viewer .cell')).backgroundColor") != "rgb(255, 255, 255)"


def test_on_a_phone_a_tapped_episode_comes_into_view(browser: Browser, small: str):
    page = browser.open(small, width=390, height=844)
    page.wait_for("document.querySelector('.viewer [role=option]')")
    page.run("document.querySelector('.count').scrollIntoView()")
    page.run("document.querySelector('.viewer [role=option]').click()")
    page.wait_for("document.querySelector('.pane .verdict')")
    page.wait_for("document.querySelector('.pane').getBoundingClientRect().top < 100")


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


def test_a_tree_shows_what_was_played_on_from_where_and_leads_to_it(browser: Browser, tmp_path: Path):
    trunks = [episode("roam", sample, [0.0] * 4, 1.0 - sample) for sample in (0, 1)]
    ways = [(2, 0, 1.0), (2, 1, 0.0), (3, 0, 1.0)]
    others = [
        replace(episode("roam", 2 + i, [0.0] * 5, outcome), branch=Branch(0, first, number))
        for i, (first, number, outcome) in enumerate(ways)
    ]
    settings = ("stage=grpo", "reward=branch")
    config = compose(*settings).reward
    credit = group_credit([(t, score(t, config)) for t in (*trunks, *others)], config)
    step = {"episodes": 5, "groups": 1, **credit_metrics([credit], step_scale([credit]))}
    run = record(tmp_path / "grpo", settings, {"rollouts": [*trunks, *others]}, [step])
    page = browser.open(f"{make_page([run], tmp_path / 'page')}#episodes&open=grpo/rollouts/1")
    page.wait_for("document.querySelector('.viewer .tree')")
    told = page.text(".viewer .tree").split("\n")
    assert [words for words in told if "V̂" in words] == ["V̂ 0.50 before turn 3", "V̂ 1.00 before turn 4"]
    assert told.count("✓") == 3 and told.count("✗") == 1
    shown = page.run("[...document.querySelectorAll('.tree .step')].map(e => e.title)")
    assert len(shown) == 4 + 3 + 3 + 2
    assert shown[2:4] == ["Turn 3: advantage +0.90", "Turn 4: advantage 0.00"], "V̂ rises by a half, then not at all"
    page.run("document.querySelectorAll('.tree a')[1].click()")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 4')")
    assert "Goes on from sample 1 before turn 3" in page.text(".strips .note")
    page.run("document.querySelector('.tree a').click()")
    page.wait_for("document.querySelector('.pane .verdict').innerText.includes('sample 1')")
    assert not page.errors()
