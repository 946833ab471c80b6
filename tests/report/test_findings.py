"""What a report concludes from a study, and that its files hold the same numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from studies import Study, make_study

from tau2_exp.config import ConfigError, RewardKind
from tau2_exp.report.answers import SHOWN, answers, answers_text
from tau2_exp.report.collect import collect
from tau2_exp.report.contrasts import Family, families
from tau2_exp.report.curves import courses, smooth, window
from tau2_exp.report.files import write_files
from tau2_exp.report.findings import Findings, find
from tau2_exp.report.surfaces import scale, surfaces
from tau2_exp.report.terminal import report_text, verdict
from tau2_exp.report.trials import Subject
from tau2_exp.statistics import Estimate, compare


@pytest.fixture(scope="module")
def findings(study: Study) -> Findings:
    return find(collect([study.outputs]))


def family(findings: Findings, title: str, split: str = "test") -> Family:
    return next(f for f in findings.families if f.trial.split == split and f.title == title)


def subjects(findings: Findings) -> dict[str, Subject]:
    return {s.label: s for trial in findings.collection.trials if trial.split == "test" for s in trial.subjects}


class TestFamilies:
    def test_arms_are_compared_with_the_outcome_alone_task_by_task_and_seed_by_seed(self, findings: Findings):
        found = family(findings, "grpo: arms against outcome")
        arms = subjects(findings)
        assert list(found.comparisons) == [
            (f"grpo turn_level alpha={alpha}", "grpo outcome") for alpha in ("0.1", "0.5")
        ]
        best = found.comparisons["grpo turn_level alpha=0.5", "grpo outcome"]
        alone = compare(arms["grpo turn_level alpha=0.5"].outcomes, arms["grpo outcome"].outcomes)
        assert best.difference.value == alone.difference.value and best.same_seeds and best.compared == 2
        assert best.pooled == 3 and "3 seeds; seed variance pooled over 3 arms" in found.note
        assert best.differs and best.difference.value > 0.2

    def test_any_other_arm_can_be_the_baseline(self, study: Study):
        found = find(collect([study.outputs]), against="alpha=0.1").families
        assert "grpo: arms against turn_level alpha=0.1" in [f.title for f in found]

    def test_each_arm_meets_the_baseline_that_is_most_like_it(self, tmp_path: Path):
        """Else two settings would change at once."""
        kinds = (RewardKind.shaped, RewardKind.turn_level)
        arms = [{"kind": RewardKind.outcome, "samples": n} for n in (4, 8)]
        arms += [{"kind": k, "alpha": a, "samples": n} for k in kinds for a in (0.1, 0.25) for n in (4, 8)]
        make_study(tmp_path, arms, lambda arm, seed: 0.5, seeds=1, tasks=3)
        found = families(collect([tmp_path]).trials[0])[0]
        assert found.title == "grpo: arms against outcome, matched by samples_per_prompt"
        assert len(found.comparisons) == 8, "the baselines are not compared with one another"
        assert all(a.rpartition(" ")[2] == b.rpartition(" ")[2] for a, b in found.comparisons)
        asked = families(collect([tmp_path]).trials[0], against="alpha=0.1")[0]
        alike = ("grpo turn_level alpha=0.25 samples_per_prompt=8", "grpo turn_level alpha=0.1 samples_per_prompt=8")
        assert alike in asked.comparisons and len(asked.comparisons) == 6

    def test_a_baseline_that_nobody_is_called_is_refused(self, study: Study):
        with pytest.raises(ConfigError, match=r"--against 'alpha=7' names no arm; there are: .*grpo outcome"):
            find(collect([study.outputs]), against="alpha=7")

    def test_arms_are_ranked_by_all_pairs_and_only_where_it_is_sure(self, findings: Findings):
        found = family(findings, "grpo: all pairs of arms")
        assert len(found.comparisons) == 3
        assert found.ranks["grpo turn_level alpha=0.5"] == (1, 1)
        assert found.ranks["grpo outcome"] == found.ranks["grpo turn_level alpha=0.1"] == (2, 3)

    def test_a_stage_is_compared_with_what_its_model_was_made_from(self, findings: Findings):
        found = family(findings, "each stage against the one before")
        assert [pair[1] for pair in found.comparisons] == ["sft"] * 3

    def test_what_is_missing_is_said_in_place_of_a_comparison(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        for seed, alpha in enumerate((0.1, 0.5)):
            made.evaluate(made.train("grpo", 0, None, 0.5, alpha=alpha), lost=seed)
        found = find(collect([tmp_path]))
        assert [f.problem for f in found.families] == ["grpo alpha=0.5: samples missing: 1"]
        assert answers(found)[0].lines == ["No comparison yet: grpo alpha=0.5: samples missing: 1."]
        assert "no comparison: grpo alpha=0.5: samples missing: 1" in report_text(found)
        assert "1 samples missing (seed 0)" in report_text(found)


class TestAnswers:
    def test_a_newcomer_reads_first_which_arms_beat_the_outcome_alone(self, findings: Findings):
        first, pairs = answers(findings)
        assert first.title == pairs.title == "telecom test, grpo", "on tasks that nothing was trained on"
        assert first.lines[0].startswith("Against outcome: pass@1 0.")
        assert first.lines[0].endswith("1 better, none worse, 1 not significantly different.")
        better, alike = first.arms
        assert better.startswith("turn_level alpha=0.5: +0.") and better.endswith("], better")
        assert alike.startswith("turn_level alpha=0.1") and "no significant difference (detectable: ≥ 0." in alike
        assert "12 tasks, 3 seeds per arm, 2 comparisons." in first.power and "at 80 % power: 0." in first.power
        assert pairs.lines == ["All pairs: one arm is significantly better than every other:"]
        assert [line.partition(":")[0] for line in pairs.arms] == ["turn_level alpha=0.5"]

    def test_table_and_summary_say_one_thing_and_better_leaves_out_0(self, tmp_path: Path):
        """Arms from clearly worse to clearly better: the same difference, interval and verdict in both."""
        arms = [{"kind": RewardKind.outcome}, *({"kind": RewardKind.shaped, "alpha": a / 10} for a in range(1, 8))]
        make_study(tmp_path, arms, lambda arm, seed: 0.2 + arm.get("alpha", 0.25), seeds=2)
        found = find(collect([tmp_path]))
        table = report_text(found)
        (first, *_), told = answers(found), []
        for line in first.arms:
            name, rest = line.split(": ", 1)
            said, word = rest.split("], ")
            value, low, high = (float(part) for part in said.replace("[", "").replace(",", "").split())
            assert low <= value <= high and (word.startswith(("better", "worse")) == (low > 0 or high < 0))
            told.append(word.partition(" (detectable")[0])
            row = next(row for row in table.splitlines() if row.strip().startswith(name) and f"{said}]" in row)
            assert word in row
        assert set(told) == {"better", "no significant difference"}

    def test_another_baseline_is_asked_for(self, study: Study):
        first, _ = answers(find(collect([study.outputs]), against="alpha=0.5"))
        assert "Against turn_level alpha=0.5" in first.lines[0] and "none better, 2 worse" in first.lines[0]

    def test_arms_that_are_alike_do_not_differ_significantly(self, tmp_path: Path):
        """None of them is the baseline: all pairs say it alone."""
        arms = [{"kind": RewardKind.shaped, "alpha": alpha} for alpha in (0.1, 0.25, 0.5)]
        make_study(tmp_path, arms, lambda arm, seed: 0.5, seeds=1)
        (answer,) = answers(find(collect([tmp_path])))
        assert answer.lines == ["All pairs: no arm is significantly better than another:"] and len(answer.arms) == 3
        assert "training again may change the order" in answer.power

    def test_one_seed_tells_only_of_that_seed(self, tmp_path: Path):
        """Of three seeds and one, the one that both have is compared, and every place that tells of it says so."""
        arms = [{"kind": RewardKind.shaped, "alpha": alpha} for alpha in (0.1, 0.5)]
        made = make_study(tmp_path, arms, lambda arm, seed: arm["alpha"], seeds=1)
        for seed in (1, 2):
            made.evaluate(made.train("grpo", seed, made.train("sft", seed, None, 0.4), 0.1, **arms[0]))
        found = find(collect([tmp_path]))
        told = family(found, "grpo: arms against alpha=0.1")
        assert "one seed: other seeds may differ by more (only those that both arms have)" in told.note
        (comparison,) = told.comparisons.values()
        assert comparison.same_seeds and verdict(comparison) == "better (1 seed)"
        text = answers_text(found)
        assert "(1 seed)" in text and "training again may change the order" in text

    def test_without_arms_the_stages_are_compared(self, tmp_path: Path):
        make_study(tmp_path, [{"alpha": 0.1}], lambda arm, seed: 0.9, seeds=4)
        (answer,) = answers(find(collect([tmp_path])))
        assert answer.lines == ["Differences in pass@1:"]
        (line,) = answer.arms
        assert line.startswith("grpo − sft: +0.") and line.endswith("better")

    def test_the_best_come_first_and_no_more_than_one_reads(self, tmp_path: Path):
        arms = [{"kind": RewardKind.outcome}, *({"kind": RewardKind.shaped, "alpha": a / 100} for a in range(1, 14))]
        make_study(tmp_path, arms, lambda arm, seed: 0.4 + arm.get("alpha", 0.0), seeds=1)
        first, pairs = answers(find(collect([tmp_path])))
        assert len(first.arms) == len(pairs.arms) == SHOWN and first.arms[-1] == "and 4 more"
        differences = [float(line.split(": ")[1].split(" ")[0]) for line in first.arms[:-1]]
        assert differences == sorted(differences, reverse=True)


class TestSurfaces:
    def test_alpha_by_samples_has_the_outcome_alone_at_alpha_zero(self, tmp_path: Path):
        arms = [{"kind": RewardKind.outcome, "samples": n} for n in (4, 8)]
        kinds = (RewardKind.shaped, RewardKind.turn_level)
        arms += [{"kind": k, "alpha": a, "samples": n} for k in kinds for a in (0.1, 0.5) for n in (4, 8)]
        make_study(tmp_path, arms, lambda arm, seed: 0.5, seeds=1, tasks=3)
        trial = collect([tmp_path]).trials[0]
        by_label = {subject.label: subject.measured("pass@1") for subject in trial.subjects}
        found = surfaces(trial)
        assert [(s.facet, s.across, s.down) for s in found] == [
            ("shaped", "alpha", "samples_per_prompt"),
            ("turn_level", "alpha", "samples_per_prompt"),
        ]
        for surface in found:
            assert surface.columns == (0.0, 0.1, 0.5) and surface.rows == (4.0, 8.0)
            assert surface.cells[1][0] == by_label["grpo outcome samples_per_prompt=8"]
            assert surface.cells[0][2] == by_label[f"grpo {surface.facet} alpha=0.5 samples_per_prompt=4"]
        low, high = scale(found)
        assert low <= min(e.value for e in by_label.values() if isinstance(e, Estimate) and e.value > 0.45) <= high

    def test_one_swept_setting_makes_no_surface(self, findings: Findings):
        assert not [surface for trial in findings.collection.trials for surface in surfaces(trial)]


class TestCurves:
    def test_seeds_are_a_band_over_the_steps_that_all_have_reached(self, tmp_path: Path):
        made = Study(tmp_path)
        made.train("grpo", 0, None, 0.4)
        made.train("grpo", 1, None, 0.8).rewind(5)
        (course,) = courses(collect([tmp_path]))
        band = course.band("", "outcome")
        assert band.steps == (1, 2, 3, 4, 5) and band.seeds == 2
        assert (band.low[3], band.mean[3], band.high[3]) == pytest.approx((0.2, 0.3, 0.4))
        assert course.panels == ["outcome", "shaped", "partial", "part/action"]

    def test_a_point_is_the_mean_of_the_steps_just_before_it(self):
        assert window(10) == 1 and smooth([1.0, 3.0]) == [1.0, 3.0]
        assert window(40) == 2 and smooth([1.0, 3.0] * 20)[:3] == [1.0, 2.0, 2.0]


def test_the_files_hold_what_was_found(findings: Findings, tmp_path: Path):
    write_files(findings, [], tmp_path)
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    arms = subjects(findings)
    for row in rows:
        if row["split"] == "test":
            label = f"{row['stage']} {row['arm']}".rstrip()
            found = arms[label].measured(row["measure"])
            assert isinstance(found, Estimate)
            assert [float(row[name]) for name in ("value", "low", "high")] == [found.value, found.low, found.high]
            assert (row["tasks"], row["seeds"], row["revision"]) == ("12", "3", "tau2-bench@337326e")
    assert len(rows) == 2 * 4 * 4
    whole = json.loads((tmp_path / "report.json").read_text())
    assert len(whole["scores"]) == len(rows) and len(whole["comparisons"]) == 2 * (2 + 3 + 3)
    assert {row["stage"] for row in whole["curves"]} == {"sft", "grpo"} and len(whole["published"]) == 7
    assert [row["stage"] for row in whole["costs"]][2:5] == ["sft", "eval of sft", "eval of sft"]
