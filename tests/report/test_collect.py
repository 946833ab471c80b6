"""From folders to arms and trials: settings that differ name the arms; what does not compare is kept apart."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from studies import Study, config, make_study

from tau2_exp.config import ConfigError, RewardKind
from tau2_exp.evaluation.merge import merge
from tau2_exp.jsonl import write_json
from tau2_exp.report.arms import arm_label, differing_settings
from tau2_exp.report.collect import Collection, collect
from tau2_exp.report.trials import Missing, Subject, Trial
from tau2_exp.runs.progress import Progress
from tau2_exp.runs.run import Run
from tau2_exp.statistics import Estimate, estimate


def trial(collection: Collection, name: str) -> Trial:
    return next(trial for trial in collection.trials if trial.name == name)


def subject(trial: Trial, label: str) -> Subject:
    return next(subject for subject in trial.subjects if subject.label == label)


class TestArms:
    def test_an_arm_is_named_by_what_differs_and_by_nothing_that_it_does_not_read(self):
        """The outcome alone has no alpha; only credit by turns has a discount."""
        outcome = {("grpo", "reward.kind"): "outcome", ("grpo", "lr"): 1e-6}
        shaped = {("grpo", "reward.kind"): "shaped", ("grpo", "reward.alpha"): 0.25, ("grpo", "lr"): 1e-6}
        other = shaped | {("grpo", "reward.alpha"): 0.5}
        turns = other | {("grpo", "reward.kind"): "turn_level", ("grpo", "reward.turn_discount"): 0.9}
        found = [arm_label(values) for values in differing_settings([outcome, shaped, other, turns])]
        assert found == ["outcome", "shaped alpha=0.25", "shaped alpha=0.5", "turn_level alpha=0.5"]

    def test_one_setting_of_many_stages_is_named_once(self):
        wide, narrow = ({(stage, "model.width"): width for stage in ("sft", "grpo")} for width in (128, 64))
        assert differing_settings([wide, narrow]) == [{"width": 128}, {"width": 64}]

    def test_a_stages_own_setting_keeps_its_stage_where_others_differ_too(self):
        makings = [{("sft", "lr"): sft, ("grpo", "lr"): grpo} for sft, grpo in ((1, 3), (1, 4), (2, 3))]
        assert differing_settings(makings)[2] == {"grpo.lr": 3, "sft.lr": 2}

    def test_a_setting_that_only_follows_another_is_not_named(self):
        """Four samples of 24 prompts, or eight of 12: equal episodes a step."""
        makings = [{("grpo", "samples_per_prompt"): n, ("grpo", "prompts_per_step"): 96 // n} for n in (4, 8)]
        assert differing_settings(makings) == [{"samples_per_prompt": 4}, {"samples_per_prompt": 8}]

    def test_lists_are_settings_too(self):
        found = differing_settings([{("grpo", "domain.names"): names} for names in (["retail"], ["retail", "airline"])])
        assert [arm_label(values) for values in found] == ["names=retail", "names=retail+airline"]

    def test_numbers_that_differ_are_told_apart_and_options_may_hold_anything(self):
        close = [{("grpo", "lr"): lr} for lr in (0.0001234561, 0.0001234562)]
        assert len({arm_label(values) for values in differing_settings(close)}) == 2
        rules = [{("eval", "policy.options.rules"): [{"a": number}]} for number in (1, 2)]
        assert len({arm_label(values) for values in differing_settings(rules)}) == 2

    def test_an_evaluation_of_other_settings_than_its_models_is_no_other_model(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        for length in (256, 512):
            sft = made.train("sft", 0, None, 0.5, length=length)
            for other in (256, 512):
                made.evaluate(sft, max_new_tokens=other)
        labels = [s.label for trial in collect([tmp_path]).trials for s in trial.subjects]
        assert sorted(labels) == sorted(set(labels)) and len(labels) == 4


class TestRuns:
    def test_seeds_are_pooled_and_shared_parents_counted_once(self, study: Study):
        found = collect([study.outputs])
        assert [s.label for s in trial(found, "telecom test").subjects] == [
            "sft",
            "grpo outcome",
            "grpo turn_level alpha=0.1",
            "grpo turn_level alpha=0.5",
        ]
        best = subject(trial(found, "telecom test"), "grpo turn_level alpha=0.5")
        assert best.seeds == ["0", "1", "2"] and best.parent == ("sft", "")
        assert best.measured("pass@4") == estimate(list(best.outcomes.values()), k=4)
        assert best.measured("pass@4") is best.measured("pass@4"), "no number is worked out twice"
        assert len(found.runs) == 3 * (1 + 3) * 2 and not found.problems

    def test_a_sweep_and_its_folder_are_the_same_runs(self, study: Study, tmp_path: Path):
        evaluations = [run for run in study.outputs.iterdir() if run.name.startswith("eval")]
        jobs = [{"overrides": ["stage=eval"], "run": f"../{run.name}"} for run in evaluations]
        sweep = study.outputs / "a-sweep"
        sweep.mkdir(exist_ok=True)
        write_json(sweep / "sweep.json", {"created": "now", "argv": ["run.py"], "commit": None, "jobs": jobs})
        assert [f.run.folder for f in collect([sweep]).runs] == [f.run.folder for f in collect([study.outputs]).runs]
        assert len(collect([sweep, study.outputs, evaluations[0]]).runs) == len(collect([sweep]).runs)

    def test_a_run_of_a_sweep_that_is_gone_is_left_out_and_the_rest_is_told(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        sft = made.train("sft", 0, None, 0.5)
        kept, gone = (made.evaluate(made.train("grpo", seed, sft, 0.5)) for seed in (0, 1))
        jobs = [{"overrides": ["stage=eval"], "run": f"../{run.folder.name}"} for run in (gone, kept)]
        sweep = tmp_path / "a-sweep"
        sweep.mkdir()
        write_json(sweep / "sweep.json", {"created": "now", "argv": ["run.py"], "commit": None, "jobs": jobs})
        shutil.rmtree(gone.folder)
        found = collect([sweep])
        assert [f.run.folder for f in found.runs if f.run.stage == "eval"] == [kept.folder]
        assert len(found.problems) == 1 and found.problems[0].startswith(f"skipped: {gone.folder}: no run folder")

    def test_an_empty_folder_is_named(self, tmp_path: Path):
        with pytest.raises(ConfigError, match="holds no run and no sweep"):
            collect([tmp_path])

    def test_what_cannot_be_read_is_named_and_the_rest_is_told(self, tmp_path: Path):
        made = Study(tmp_path)
        sft = made.train("sft", 0, None, 0.5)
        made.evaluate(sft)
        other = made.train("sft", 1, None, 0.5)
        data = json.loads((other.folder / "config.json").read_text())
        write_json(other.folder / "config.json", data | {"colour": "red"})
        found = collect([tmp_path])
        assert len(found.trials) == 1 and len(found.problems) == 1 and "unknown field 'colour'" in found.problems[0]

    def test_a_parent_that_is_gone_is_named(self, tmp_path: Path):
        made = Study(tmp_path, tasks=2)
        sft = made.train("sft", 0, None, 0.5)
        made.evaluate(sft)
        grpo = made.train("grpo", 0, sft, 0.5)
        shutil.rmtree(sft.folder)
        found = collect([tmp_path])
        assert [one.run.stage for one in found.runs] == ["eval", "grpo"]
        gone, unevaluated = found.problems
        assert f"unknown: {sft.folder}: is gone" in gone and unevaluated.endswith(f"parent={grpo.folder}")


class TestTrials:
    def test_other_users_other_limits_and_other_tasks_never_share_a_column(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        sft = made.train("sft", 0, None, 0.5)
        for changes in ({}, {"max_steps": 60}):
            made.evaluate(sft, **changes)
        made.tasks, made.difficulty = made.tasks[:2], made.difficulty[:2]
        made.evaluate(sft, max_errors=5)
        names = [trial.name for trial in collect([tmp_path]).trials]
        assert names == [
            "telecom test (max_steps=140, max_errors=10, 3 tasks)",
            "telecom test (max_steps=140, max_errors=5, 2 tasks)",
            "telecom test (max_steps=60, max_errors=10, 3 tasks)",
        ]

    def test_seeds_whose_greedy_samples_were_lost_are_missing(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        runs = [made.evaluate(made.train("sft", seed, None, 0.5)) for seed in (0, 1)]
        results = runs[1].results
        split = results["splits"]["test"]
        split["greedy_outcomes"] = {task: [] for task in split["greedy_outcomes"]}
        split["measures"]["greedy pass@1"] = {"value": None, "missing": 3, "tasks": 3}
        write_json(runs[1].folder / "results.json", results)
        (only,) = collect([tmp_path]).trials[0].subjects
        assert only.measured("greedy pass@1") == Missing(3, ("1",))

    def test_evaluations_of_greedy_samples_alone_are_trials_of_their_tasks(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        run = made.evaluate(made.train("sft", 0, None, 0.5))
        results = run.results
        split = results["splits"]["test"]
        split |= {"outcomes": {}, "samples_per_prompt": 0}
        write_json(run.folder / "results.json", results)
        (found,) = collect([tmp_path]).trials
        assert len(found.tasks) == 3 and found.measures == ("greedy pass@1",)

    def test_an_incomplete_evaluation_has_no_number_but_says_what_is_missing(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        sft = made.train("sft", 0, None, 0.5)
        made.evaluate(sft, lost=2)
        (only,) = collect([tmp_path]).trials[0].subjects
        assert only.measured("pass@1") == only.measured("pass^4") == Missing(2, ("0",))
        assert isinstance(only.measured("greedy pass@1"), Estimate)

    def test_what_is_not_finished_is_listed_with_how_far_it_is(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        made.evaluate(made.train("sft", 0, None, 0.5), finish=False)
        begun = made._create(config("rft", 0), None)
        Progress("rft training", 3, 9, 0, 1.0).write(begun.folder)
        failed = made._create(config("grpo", 1), None)
        failed.fail("out of memory")
        for seed in (2, 3):
            made._create(config("grpo", seed), None)
        found = collect([tmp_path])
        assert not found.trials
        assert any("unfinished: eval of sft seed 0" in p and "8 of 15 episodes" in p for p in found.problems)
        assert any("unfinished: rft seed 0" in p and p.endswith("rft training 3 of 9") for p in found.problems)
        assert any(p.startswith("failed: grpo seed 1") and p.endswith("out of memory") for p in found.problems)
        assert found.problems[-1] == "unfinished: grpo, seed 2, 3" and len(found.problems) == 4

    def test_a_trained_model_that_nothing_evaluates_is_named_with_the_command_that_does(self, tmp_path: Path):
        made = Study(tmp_path / "its runs", tasks=3)
        ends = [made.train("grpo", seed, made.train("sft", seed, None, 0.5), 0.5) for seed in (0, 1)]
        made.evaluate(ends[0])
        (line,) = collect([tmp_path / "its runs"]).problems
        folder = f"parent='{ends[1].folder}'"
        assert line == f"not evaluated: grpo seed 1: python run.py stage=eval {shlex.quote(folder)}"

    def test_a_split_has_the_samples_that_were_played_in_it(self, tmp_path: Path):
        """A merged run is set to the most samples that any of its splits has."""
        made = Study(tmp_path, tasks=3, samples=2)
        run = made.evaluate(made.train("sft", 0, None, 0.5))
        assert run.config.stage.samples_per_prompt == 4
        (found,) = collect([tmp_path]).trials
        assert found.samples == 2 and found.measures == ("greedy pass@1", "pass@1", "pass@2", "pass^2")
        assert isinstance(found.subjects[0].measured("pass^2"), Estimate)

    def test_evaluating_one_model_again_gives_samples_and_no_seed(self, tmp_path: Path):
        made = Study(tmp_path, tasks=3)
        sft = made.train("sft", 0, None, 0.5)
        first = made.evaluate(sft)
        second = Run.create(config("eval", 7), "f" * 64, tmp_path / "second", sft)
        second.record(provider=first.manifest.provider)
        second.finish(first.results)
        (only,) = collect([tmp_path]).trials[0].subjects
        assert only.seeds == ["0"] and {len(outcomes) for outcomes in only.outcomes["0"].values()} == {8}

    def test_a_merged_evaluation_speaks_for_its_parts(self, tmp_path: Path):
        """They may be of other sizes, so that they would be trials of their own, or be gone."""
        made = Study(tmp_path, tasks=3, samples=2)
        sft = made.train("sft", 0, None, 0.5)
        first = made.evaluate(sft)
        made.samples = 4
        parts = [first, made.evaluate(sft, eval_splits=["test", "train"])]
        whole = merge(parts, "whole")
        (only,) = [s for trial in collect([tmp_path]).trials for s in trial.subjects]
        assert [e.run.folder for e in only.evaluations.values()] == [whole.folder]
        assert {len(outcomes) for outcomes in only.outcomes["0"].values()} == {4}
        for part in parts:
            shutil.rmtree(part.folder)
        (again,) = [s for trial in collect([tmp_path]).trials for s in trial.subjects]
        assert (again.label, again.outcomes) == (only.label, only.outcomes)

    def test_results_over_domains_are_told_by_domain(self, tmp_path: Path):
        made = Study(tmp_path, tasks=2)
        run = made.evaluate(made.train("sft", 0, None, 0.5))
        results = run.results
        results["splits"] = {"test": results["splits"]["test"], "retail test": results["splits"]["test"]}
        write_json(run.folder / "results.json", results)
        assert [trial.name for trial in collect([tmp_path]).trials] == ["retail test", "telecom test"]


def test_a_sweep_over_alpha_costs_the_grpo_runs_alone(tmp_path: Path):
    """Two arms of one seed depend on one SFT run."""
    arms = [{"kind": RewardKind.shaped, "alpha": alpha} for alpha in (0.0, 0.25)]
    make_study(tmp_path, arms, lambda arm, seed: 0.5, seeds=1, tasks=2)
    stages = [found.run.stage for found in collect([tmp_path]).runs]
    assert sorted(stages) == ["eval"] * 3 + ["grpo"] * 2 + ["sft"]
