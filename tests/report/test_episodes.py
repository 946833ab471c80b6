"""What the page is told of episodes is what the learner did with them, and no text of a model is more than text."""

from __future__ import annotations

import base64
import gc
import json
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import compose, episode, found, record

from tau2_exp.config import ConfigError
from tau2_exp.learning.advantage import credit_metrics, group_credit, step_scale
from tau2_exp.learning.reward import score
from tau2_exp.report.checks import list_checks
from tau2_exp.report.episodes import CHUNK, deflate, script, write_episodes
from tau2_exp.report.viewer_episode import episode_record, read_told
from tau2_exp.types import (
    Criteria,
    EnvAssertion,
    GoldAction,
    Message,
    Role,
    StopReason,
    ToolCall,
    Trajectory,
    Turn,
    Verdict,
)

GRPO = ("stage=grpo", "reward=turn_level", "reward.alpha=0.5")
ROAM = ToolCall("enable_roaming", {"line_id": "L1"})


def handed(text: str) -> Any:
    """What a script hands to the page."""
    call = re.fullmatch(r'tau2_episodes\("\w+", ([ -~]*)\)\n', text)
    assert call, "one line of plain letters"
    return json.loads(call[1])


def inflate(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))


def written(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The index, and all episodes in its order."""
    index = handed((folder / "index.js").read_text())
    chunks = [inflate(handed((folder / f"{i:05}.js").read_text())) for i in range(len(index["chunks"]))]
    return index, [told for chunk in chunks for told in chunk]


def write(runs: Sequence[Any], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    write_episodes(
        runs, folder, modes=lambda t, _: ["hallucinated tool"] if t.sample == 1 else [], criteria=lambda *_: None
    )
    return written(folder)


class TestCredit:
    def test_every_turn_shows_what_the_learner_gave_it(self, tmp_path: Path):
        """Two steps; the second begins with the task that ended the first. One sample is lost to a fault."""
        a = [episode("a", 0, [0.5, 1.0], 1.0), episode("a", 1, [0.0, 0.5]), episode("a", 2, [0.0], fault=True)]
        b = [episode("b", s, [0.0]) for s in range(3)]  # all the same: no signal
        c = [episode("b", s, [0.5 * s, 0.25 * s]) for s in range(3)]
        config = compose(*GRPO).reward
        groups = [[(t, score(t, config)) for t in group] for group in (a[:2], b, c)]
        credits = [group_credit(group, config) for group in groups]
        assert [credit.signal for credit in credits] == [True, False, True]
        scales = [step_scale(credits[:1]), step_scale(credits[2:])]
        steps = [
            {"episodes": n, **credit_metrics([one], s)} for n, one, s in zip((6, 3), credits[::2], scales, strict=True)
        ]
        run = record(tmp_path / "run", GRPO, {"rollouts": [*a, *b, *c]}, steps)
        told = [one for group in read_told(run, run.folder / "trajectories/rollouts.jsonl") for one in group]
        assert [one.step for one in told] == [1] * 6 + [2] * 3
        places = ((scales[0], told[:2]), (scales[0], told[3:6]), (scales[1], told[6:]))
        for learned, (scale, shown) in zip(credits, places, strict=True):
            found = [one.credit for one in shown if one.credit]
            assert [credit.advantages for credit in found] == learned.advantages(scale)
            assert [credit.own for credit in found] == learned.own(scale)
            assert {credit.signal for credit in found} == {learned.signal}
        assert told[2].credit is None

    def test_what_cannot_be_computed_again_is_not_shown(self, tmp_path: Path):
        """A step that an earlier version credited, which told no scale; one that was never finished."""
        steps = [{"episodes": 2, "groups": 1}]
        played = [episode("a", s, [0.5 * s], float(s)) for s in range(2)]
        other = [episode("b", s, [0.5 * s], float(s)) for s in range(2)]
        old = record(tmp_path / "old", GRPO, {"rollouts": [*played, *other]}, steps)
        told = [one for group in read_told(old, old.folder / "trajectories/rollouts.jsonl") for one in group]
        notes = [episode_record(one, old, None)["note"] for one in told]
        assert all(one.credit is None for one in told) and "earlier version" in notes[0] and "not finished" in notes[2]
        plain = record(tmp_path / "plain", ("stage=grpo", "reward=shaped"), {"rollouts": played}, steps)
        told = [one for group in read_told(plain, plain.folder / "trajectories/rollouts.jsonl") for one in group]
        assert [one.credit.advantages for one in told if one.credit] == [
            pytest.approx((-(0.5**0.5),)),
            pytest.approx((0.5**0.5,)),
        ], "that formula has not changed"

    def test_where_there_was_no_group_the_page_says_so(self, tmp_path: Path):
        runs = [
            record(tmp_path / "eval", ["stage=eval"], {"test": [episode("a", 0, [0.5])]}),
            record(tmp_path / "rft", ["stage=rft"], {"samples": [episode("a", 0, [0.5])]}),
            record(
                tmp_path / "grpo",
                GRPO,
                {"rollouts": [episode("a", 0, [0.5]), episode("b", 0, [0.5], fault=True)]},
                [{"episodes": 2, "groups": 0}],
            ),
        ]
        _, told = write([found(run) for run in runs], tmp_path / "page")
        assert [bool(one["group"]) for one in told] == [False, False, True, False]
        for one, word in zip(told, ("Evaluation", "RFT", "only scored", "fault"), strict=True):
            assert word in one["note"]


class TestData:
    def test_the_index_finds_every_episode(self, tmp_path: Path):
        rollouts = [episode(f"t{i // 8}", i % 8, [0.5] * (1 + i % 3), float(i % 2)) for i in range(96)]
        files = {"test": [episode("x", 0, [0.0])], "test-greedy": [episode("x", 0, [1.0], 1.0)]}
        runs = [
            found(record(tmp_path / "grpo", GRPO, {"rollouts": rollouts}, [{"episodes": 48}] * 2), "turn_level"),
            found(record(tmp_path / "demos", ["stage=demos"], {})),
            found(record(tmp_path / "eval", ["stage=eval"], files)),
        ]
        index, told = write(runs, tmp_path / "page")
        columns, names = index["columns"], index["names"]
        assert index["count"] == len(told) == len(columns["task"]) == 98
        assert [run["name"] for run in index["runs"]] == ["grpo", "eval"], "runs without episodes are not named"
        assert [(f["name"], f["split"], f["greedy"], f["first"]) for f in index["files"]] == [
            ("rollouts", "train", False, 0),
            ("test-greedy", "test", True, 96),
            ("test", "test", False, 97),
        ]
        for i, one in enumerate(told):
            assert names["task"][columns["task"][i]] == f"telecom/{one['task']}"
            assert columns["turns"][i] == len(one["turns"])
            assert columns["shaped"][i] == pytest.approx(one["reward"]["shaped"], abs=1e-4)
        assert all(b - a >= CHUNK for a, b in pairwise(index["chunks"]))
        assert all(first % 8 == 0 for first in index["chunks"][:-1]), "a group is not torn apart"
        assert columns["modes"][1] == [names["modes"].index("hallucinated tool")]

    def test_text_stays_text_and_numbers_stay_exact(self, tmp_path: Path):
        nasty = "</script><!-- <script>alert(1)</script> \u2028\u2029 \ud800 \x00"
        call = ToolCall("pay", {"amount": float("nan"), "id": 2**63, "text": nasty})
        run = record(tmp_path / "run", ["stage=eval"], {"test": [episode("a", 0, [0.5], text=nasty, call=call)]})
        _, [told] = write([found(run)], tmp_path / "page")
        [turn] = told["turns"]
        assert turn["text"] == nasty and turn["messages"][1]["content"] == nasty
        assert turn["messages"][0]["tool_calls"][0]["arguments"] == {"amount": "nan", "id": str(2**63), "text": nasty}
        assert told["seed"] == str(2**62), "a browser would round it"
        assert "tokens" not in turn

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
    def test_whatever_json_holds_is_handed_over(self, value):
        assert json.dumps(handed(script("x", value)), allow_nan=False)
        assert inflate(deflate(value)) == handed(script("x", value))

    def test_no_more_than_a_group_is_held(self, tmp_path: Path):
        run = record(tmp_path / "run", GRPO, {"rollouts": [episode(f"t{i // 4}", i % 4, [0.5]) for i in range(200)]})
        before, held = _alive(), []

        def modes(trajectory: Trajectory, _: Path) -> list[str]:
            if trajectory.sample == 3 and trajectory.task.endswith("9"):
                held.append(_alive() - before)
            return []

        write_episodes([found(run)], tmp_path / "page", modes, criteria=lambda *_: None)
        assert len(held) == 5 and max(held) <= 8

    def test_what_was_there_stays_until_all_is_written(self, tmp_path: Path):
        run = found(record(tmp_path / "run", ["stage=eval"], {"test": [episode("a", 0, [0.5])]}))
        write([run], tmp_path / "page")
        with pytest.raises(RuntimeError, match="killed"):
            write_episodes([run], tmp_path / "page", modes=_killed, criteria=lambda *_: None)
        assert written(tmp_path / "page")[0]["count"] == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["page", "run"]

    def test_a_line_that_is_no_trajectory_is_named(self, tmp_path: Path):
        run = record(tmp_path / "run", ["stage=eval"], {"test": [episode("a", 0, [0.5])]})
        with (run.folder / "trajectories/test.jsonl").open("a") as file:
            file.write("{]\n")
        with pytest.raises(ConfigError, match=r"test\.jsonl:2: not a JSON line"):
            write([found(run)], tmp_path / "page")


class TestChecks:
    criteria = Criteria(
        actions=(GoldAction("1", "enable_roaming", {"line_id": "L1"}), GoldAction("2", "reboot", {}, Role.USER, ())),
        assertions=(EnvAssertion(Role.USER, "assert_service_status", {"expected_status": "connected"}),),
        communicate=("$5.00",),
        basis=("ENV_ASSERTION", "COMMUNICATE"),
    )

    def trajectory(self, **verdict: Any) -> Trajectory:
        turns = (
            Turn("", (Message(Role.ASSISTANT, "Hello"),)),
            Turn("", (Message(Role.ASSISTANT, tool_calls=(ROAM,)),)),
            Turn("", (Message(Role.ASSISTANT, tool_calls=(ROAM,)),)),
            Turn("", (Message(Role.ASSISTANT, "It costs $5.00."),)),
        )
        return Trajectory("t", "telecom", 0, 0, (), turns, StopReason.USER_STOP, Verdict(0.0, **verdict))

    def test_a_check_has_a_name_and_the_turn_that_first_met_it(self):
        made = {"env_assertions": (True,), "action_checks": (True, False), "communicate_checks": (True,)}
        checks = list_checks(self.trajectory(**made), self.criteria)
        assert [(c.text, c.held, c.turn, c.counts) for c in checks] == [
            ('assert_service_status(expected_status="connected")', True, None, True),
            ('enable_roaming(line_id="L1")', True, 2, False),
            ("reboot()", False, None, False),
            ("$5.00", True, 4, True),
        ]

    def test_checks_of_another_revision_lend_no_names(self):
        checks = list_checks(self.trajectory(action_checks=(True, False, True)), self.criteria)
        assert [(c.kind, c.text, c.held) for c in checks] == [
            ("action", "1", True),
            ("action", "2", False),
            ("action", "3", True),
        ]


def _alive() -> int:
    return sum(isinstance(thing, Trajectory) for thing in gc.get_objects())


def _killed(*_: object) -> list[str]:
    raise RuntimeError("killed")
