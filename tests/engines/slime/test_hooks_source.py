"""slime asks for groups and rows, saves and restarts: tasks come as the curriculum draws them, and nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dialogues import make_trajectory
from slime_contract import MakeRun, arguments

from tau2_exp import codec
from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.hooks import context, samples
from tau2_exp.engines.slime.hooks import entry as hooks
from tau2_exp.engines.slime.hooks.context import open_context
from tau2_exp.engines.slime.hooks.data_source import DataSource
from tau2_exp.engines.slime.hooks.samples import Episode
from tau2_exp.jsonl import JsonlWriter
from tau2_exp.learning.metrics import rollout_metrics
from tau2_exp.learning.reward import score
from tau2_exp.learning.selection import epochs
from tau2_exp.runs.run import Run
from tau2_exp.types import Fault, FaultSource, Row, Turn
from tests.stages.conftest import make

FAULT = Fault(FaultSource.ENGINE, "the server is gone")


def end(source: DataSource, groups: list[list[Any]], solved: float = 1.0, fault: bool = False) -> None:
    """Let the groups' episodes end, without playing them: every second one with the outcome `solved`."""
    assert source.context is not None
    for sample in (sample for group in groups for sample in group):
        task = sample.prompt.removeprefix("telecom/")
        outcome = solved if sample.index % 2 else 0.0
        fault_ = FAULT if fault else None
        trajectory = make_trajectory(Turn("", ()), task=task, domain="telecom", reward=outcome, fault=fault_)
        reward = None if fault else score(trajectory, source.context.config.reward)
        sample.reward, sample.loss_mask = outcome, [1]
        sample.metadata["tau2_exp"] = Episode(trajectory, reward)
        source.context.groups.note(sample.group_index, sample.index, sample.metadata["tau2_exp"])


def step(source: DataSource, rollout_id: int, groups: list[list[Any]], solved: float = 1.0) -> None:
    end(source, groups, solved)
    flat = [sample for group in groups for sample in group]
    assert hooks.log_rollout(rollout_id, source.args, flat, None, 1.5) is False, "slime tells its own figures too"


def keys(groups: list[list[Any]]) -> list[str]:
    return [group[0].prompt for group in groups]


def test_groups_are_what_slime_plays(slime: SimpleNamespace, make_run: MakeRun, pupil: Run) -> None:
    source = hooks.DataSource(arguments(make_run("domain.limit=4"), pupil))
    groups = source.get_samples(2)
    assert [[sample.index for sample in group] for group in groups] == [[0, 1, 2], [3, 4, 5]]
    assert [[sample.group_index for sample in group] for group in groups] == [[0] * 3, [1] * 3]
    for sample in (sample for group in groups for sample in group):
        assert sample.status is slime.Sample.Status.PENDING and sample.reward is None
        assert sample.prompt == f"{sample.metadata['domain']}/{sample.metadata['task']}"
    assert len(set(keys(groups))) == len(groups) and len(source) == 4


def test_a_refused_group_is_replaced_and_not_a_whole_batch(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("domain.limit=8", "stage.prompts_per_step=4", "stage.refill=1"), pupil)
    source = hooks.DataSource(args)
    groups = source.get_samples(4)
    end(source, groups, solved=0.0)
    assert not hooks.filter_group(args, groups[0]).keep
    (instead,) = source.get_samples(4)
    assert instead[0].prompt not in keys(groups), "a task is drawn once a step, while there are others"
    args.over_sampling_batch_size = 8
    assert len(source.get_samples(8)) == 8, "who asked for more than the batch gets it"


@pytest.mark.parametrize("kind", ["none", "reference", "adaptive"])
def test_a_restart_goes_on_as_if_nothing_had_been(slime, make_run: MakeRun, pupil: Run, kind: str) -> None:
    """Two rollouts saved, a third begun and lost; another process then draws what the first one would have drawn."""
    args = arguments(make_run("domain.limit=6", f"curriculum={kind}"), pupil)
    source = hooks.DataSource(args)
    source.load(-1)
    step(source, 0, source.get_samples(2), solved=1.0)
    step(source, 1, source.get_samples(2), solved=0.0)
    if kind == "none":  # slime asks for it; the log of the rollout has done it already
        source.save(1)
    first = [source.get_samples(2) for _ in range(2)]
    step(source, 2, first[0])
    context.forget()
    again = hooks.DataSource(args)
    again.load(1)
    assert again.context is not None and again.context is not source.context
    run = again.context.run
    assert [record["step"] for record in run.metrics()] == [1, 2], "what came after the checkpoint is told anew"
    assert len(list(run.trajectories("rollouts"))) == 2 * 2 * 3
    second = [again.get_samples(2)]
    step(again, 2, second[0])
    second.append(again.get_samples(2))
    assert keys(second[0]) == keys(first[0])
    assert second[0][0][0].index == first[0][0][0].index
    assert [record["step"] for record in run.metrics()] == [1, 2, 3]
    context.forget()
    fresh = hooks.DataSource(args)
    fresh.load(-1)
    assert list(run.metrics()) == [] == list(run.trajectories("rollouts")), "from the start"


def test_slime_may_save_without_our_log(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("domain.limit=6"), pupil)
    source = hooks.DataSource(args)
    end(source, source.get_samples(2))
    source.save(7)
    expected = keys(source.get_samples(2))
    again = hooks.DataSource(args)
    assert again.get_samples(1)[0][0].index == 0, "a new source begins at the beginning"
    again.load(7)
    assert keys(again.get_samples(2)) == expected


def test_what_is_saved_is_the_rollout_that_was_trained(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    """An asynchronous trainer saves rollout 0 when 1 has ended already: the state is that of 0."""
    args = arguments(make_run("domain.limit=6", asynchronous=True), pupil)
    source = hooks.DataSource(args)
    now, later = source.get_samples(2), source.get_samples(1)
    step(source, 0, now)
    on_its_way = source.get_samples(1)
    step(source, 1, later)
    source.save(0)
    state = json.loads((Path(args.save) / "rollout" / "tau2_exp_0.json").read_text())
    assert state["episodes"] == 6 and state["handed"] == 3
    assert state["waiting"] == keys(later), "what was under way is lost with the process, and waits again"
    end(source, on_its_way)
    assert source.context is not None and len(source.context.groups.step(0, drop=False)) == 1, "nothing was dropped"


def test_what_waits_to_be_trained_on_is_bounded(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    """Asynchronous: a batch of 2 groups, and 6 places for episodes, which 2 more groups fill."""
    args = arguments(make_run("domain.limit=8", "rollout.concurrency=6", asynchronous=True), pupil)
    source = hooks.DataSource(args)
    groups = [group for _ in range(6) for group in source.get_samples(1)]
    assert len(groups) == 2 + 2
    end(source, groups[:3])
    assert source.get_samples(1) == [], "what has ended waits too"
    step(source, 0, groups[:2])
    assert [len(source.get_samples(1)) for _ in range(3)] == [1, 1, 0]


def test_tasks_that_slime_drops_come_first_the_next_time(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run("domain.limit=6", "stage.prompts_per_step=2"), pupil)
    args.over_sampling_batch_size = 4
    source = hooks.DataSource(args)
    groups = source.get_samples(4)
    step(source, 0, groups[:2])
    again = source.get_samples(4)
    assert keys(again)[:2] == keys(groups[2:]) and len(set(keys(groups + again[2:]))) == 6
    end(source, groups[2:])
    assert source.context is not None and source.context.groups.step(0, drop=False) == [], "too late: they were dropped"


def test_a_group_given_back_comes_first(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    source = hooks.DataSource(arguments(make_run("domain.limit=4"), pupil))
    groups = source.get_samples(2)
    source.add_samples(groups[1:])
    assert source.get_samples(1) == groups[1:]


def test_a_step_is_told_by_the_names_of_the_torch_engine(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    run = make_run("domain.limit=4")
    source = hooks.DataSource(arguments(run, pupil))
    source.load(-1)
    groups = source.get_samples(2)
    end(source, groups[:1])
    end(source, groups[1:], fault=True)
    flat = [sample for group in groups for sample in group]
    hooks.log_rollout(0, source.args, flat, {"rollout/dynamic_filter/drop_faults": 1}, 1.5)
    told = list(run.trajectories("rollouts"))
    assert [t.key for t in told] == [sample.prompt for sample in flat]
    pairs = [(t, score(t, run.config.reward)) for t in told if t.scored]
    (record,) = run.metrics()
    assert record.items() >= {"step": 1, **rollout_metrics(1, pairs, told), "rollout_seconds": 1.5}.items()
    assert record["faults"] == 3 and record["rollout/dynamic_filter/drop_faults"] == 1
    assert run.progress is not None and (run.progress.done, run.progress.total) == (1, run.config.stage.steps)
    with pytest.raises(RuntimeError, match="grpo step 2: all 6 episodes ended in a fault; the first: the server"):
        groups = source.get_samples(2)
        end(source, groups, fault=True)
        hooks.log_rollout(1, source.args, [sample for group in groups for sample in group], None, 1.5)


def test_a_run_is_needed_and_worlds_are_not_taken_up_in_the_middle(slime, make_run, pupil: Run) -> None:
    with pytest.raises(ConfigError, match="tau2_exp_run"):
        hooks.DataSource(SimpleNamespace(rollout_global_dataset=True))
    with pytest.raises(ConfigError, match="--partial-rollout"):
        hooks.DataSource(arguments(make_run(), pupil, partial_rollout=True))
    nothing = hooks.DataSource(SimpleNamespace(rollout_global_dataset=False, n_samples_per_prompt=2))
    assert [len(group) for group in nothing.get_samples(2)] == [2, 2]
    assert hooks.log_rollout(0, SimpleNamespace(), [], None, 0.1) is False


def test_the_hooks_are_imported_where_slime_is_not() -> None:
    code = (
        "import sys, tau2_exp.engines.slime.hooks.entry; print({'slime', 'ray', 'sglang', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def taught(tmp_path: Path, demos: Run) -> Run:
    """An SFT run with seven rows, of which one holds nothing to learn from."""
    run = make(tmp_path / "sft", "stage=sft", "stage.batch_size=4", "stage.epochs=3", parent=demos)
    with JsonlWriter(run.folder / "slime" / "rows.jsonl") as file:
        for number in range(8):
            length = 3 + number
            trained = tuple(number != 3 and place >= 2 and place % 3 != 1 for place in range(length))
            row = Row(tuple(range(number, number + length)), trained, (0.0,) * length, (1.0,) * length)
            file.write(codec.encode(row))
    return run


def test_supervised_steps_are_the_epochs_of_the_torch_engine(slime, taught: Run, pupil: Run) -> None:
    args = arguments(taught, pupil)
    source = hooks.DataSource(args)
    source.load(-1)
    assert len(source) == 8, "seven rows, made up to whole batches"
    found = open_context(args)
    assert found is not None
    rows = found.rows
    assert len(rows) == 7
    for epoch in range(2):
        batches = epochs(7, 4, taught.config.seed, epoch)
        for place, indices in enumerate(batches):
            output = hooks.sft_rollout(args, epoch * 2 + place, source)
            chosen = [sample for (sample,) in output.samples]
            assert [tuple(sample.tokens) for sample in chosen[: len(indices)]] == [rows[i].ids for i in indices]
            assert len(chosen) == 4
            for sample in chosen:
                row = next(row for row in rows if row.ids == tuple(sample.tokens))
                assert sample.loss_mask[0] == 1 and len(sample.loss_mask) == sample.response_length
                before = len(row.ids) - sample.response_length
                assert [False] * before + list(map(bool, sample.loss_mask)) == list(row.trained)
                assert sample.reward == 0.0 and sample.rollout_log_probs is None
    assert tuple(chosen[-1].tokens) == rows[batches[0][0]].ids, "the last batch is filled up from the epoch's start"
    hooks.log_rollout(3, args, chosen, None, 0.5)
    assert taught.metrics()[0]["step"] == 4 and taught.metrics()[0]["rows"] == 4
    assert taught.progress is not None and taught.progress.total == 6


def test_a_supervised_stage_says_what_it_lacks(slime: SimpleNamespace, taught: Run, pupil: Run) -> None:
    args = arguments(taught, pupil)
    with pytest.raises(ConfigError, match="sft_rollout"):
        hooks.DataSource(args).get_samples(1)
    with pytest.raises(ConfigError, match="--eval-interval"):
        hooks.sft_rollout(args, 0, None, evaluation=True)
    (taught.folder / "slime" / "rows.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"rows\.jsonl: no conversation"):
        hooks.sft_rollout(args, 0, None)
    assert samples.task_key(slime.Sample(prompt="telecom/x")) == "telecom/x"
