"""The study of credit goes on from its rows, on any machine: what is missing is run, and nothing twice."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from flows import ROOT

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import PipelineConfig
from tau2_exp.statistics.student import t_quantile


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = importlib.util.spec_from_file_location("credit_study", ROOT / "launchers" / "credit_study.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "credit_study", module)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def study(launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launcher with rows of its own, none at first."""
    monkeypatch.setattr(launcher, "ROWS", tmp_path / "runs.csv")
    return launcher


def test_the_search_comes_first_and_every_row_is_a_run_less(study: ModuleType) -> None:
    arms = ["outcome", "branch"]
    search = study.missing(study.SEARCH, arms)
    assert len(search) == 2 * 2 * 3 and study.missing(study.FINAL, arms) == []
    rows = [
        study.Row(
            job.phase, job.arm, job.seed, job.rate, 0.5 + (job.rate == 3e-4) / 10, None, 0.4, 80_000, *[None] * 4, "abc"
        )
        for job in search
        if job.arm == "outcome"
    ]
    study.write_rows(rows[::-1])
    assert study.read_rows() == sorted(rows, key=lambda row: (row.rate, row.seed)), "one order, whatever ran first"
    assert {job.arm for job in study.missing(study.SEARCH, arms)} == {"branch"}
    final = study.missing(study.FINAL, arms)
    assert [(job.arm, job.rate) for job in final] == [("outcome", 3e-4)] * 8, "at the best rate of the search"
    done = replace(rows[0], phase=study.FINAL, seed=0, rate=3e-4, test=0.25, with_outcome=0.123456789)
    study.write_rows([*rows, done])
    assert len(study.missing(study.FINAL, arms)) == 7
    assert study.read_rows()[-1] == replace(done, with_outcome=0.123457)


def test_the_table_compares_arms_with_the_outcome_seed_by_seed(study: ModuleType) -> None:
    told = (80_000, None, None, None, None, "abc")
    better = [0.5, 0.6, 0.55]
    rows = [study.Row(study.FINAL, "outcome", seed, 3e-4, 0.3, 0.25, 0.2, *told) for seed in range(3)]
    rows += [study.Row(study.FINAL, "branch", seed, 3e-4, better[seed], 0.25, 0.2, *told) for seed in range(3)]
    study.write_rows(rows)
    lines = study.tables().splitlines()
    branch = [line for line in lines if line.startswith("| branch")][-1]
    assert lines[-1].endswith("|  |  |  |"), "no comparison before every arm has runs"
    reach = t_quantile(1 - 0.025 / 7, 2) * 0.05 / 3**0.5  # seven comparisons
    assert "3 of 8" in branch and f"| 0.550 | +0.250 [{0.25 - reach:+.3f}, {0.25 + reach:+.3f}] |" in branch
    assert branch.count("+0.000 [+0.000, +0.000]") == 2
    dots, means = study.answer_figure().data[2:4]  # of the panel of `development`
    assert dots.x == pytest.approx((0.2, 0.3, 0.25)) and set(dots.y) == set(means.y) == {"branch"}
    assert means.x == pytest.approx((0.25,)) and means.error_x.array == pytest.approx((reach,))


def test_the_page_has_the_tables_of_its_rows(launcher: ModuleType) -> None:
    page = (ROOT / "docs" / "credit.md").read_text()
    assert launcher.tables().strip() in page, "python launchers/credit_study.py --tables prints them"


def test_every_arm_composes_at_equal_cost(study: ModuleType) -> None:
    kinds = set()
    for arm in study.ARMS:
        config = compose_config(study.Job(study.FINAL, arm, 0, 3e-4).words)
        assert isinstance(config.stage, PipelineConfig)
        grpo = config.stage.grpo
        assert (grpo.steps, grpo.sampled_tokens, grpo.prompts_per_step, grpo.lr) == (10, 8000, None, 3e-4)
        kinds.add(str(config.reward))
    assert len(kinds) == len(study.ARMS)


def test_the_curves_are_means_over_seeds(study: ModuleType) -> None:
    told = (0.3, 0.25, 0.2, 80_000, None, None, None, None, "abc")
    curves = ("0:0.2 900:0.4", "0:0.4 1100:0.6")
    study.write_rows([study.Row(study.FINAL, "outcome", seed, 3e-4, *told, curve) for seed, curve in enumerate(curves)])
    outcome = study.curves_figure().data[0]
    assert outcome.x == (0, 1000) and outcome.y == pytest.approx((0.3, 0.5))


def test_the_area_is_the_mean_height_of_the_curve(study: ModuleType) -> None:
    assert study.area([(0, 0.2), (100, 0.4), (400, 0.4)]) == pytest.approx((0.3 * 100 + 0.4 * 300) / 400)
