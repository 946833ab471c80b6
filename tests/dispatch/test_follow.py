"""How a run stands, of what the queue says and what its folder holds; and what SLURM's commands tell of jobs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Config, ConfigError
from tau2_exp.dispatch.following import states as follow
from tau2_exp.dispatch.following.states import RunState, reports, runs_of
from tau2_exp.dispatch.slurm import queue
from tau2_exp.dispatch.slurm.jobs import SlurmJob, Submission, read_jobs, write_jobs
from tau2_exp.dispatch.slurm.queue import Entry, look_up
from tau2_exp.runs.run import Run


@cache
def frozen(stage: str) -> Config:
    return compose_config([stage])


def job(number: str, run: str, after: tuple[str, ...] = ()) -> SlurmJob:
    return SlurmJob(number, run, "demos", "python …", f"{run}/logs/worker.log", f"slurm/{number}.out", after=after)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """Demonstrations and SFT, submitted as jobs 7 and 8."""
    config = frozen("stage=demos")
    demos = Run.create(config, "demos", tmp_path / "demos")
    sft = Run.create(frozen("stage=sft"), "sft", tmp_path / "sft", demos)
    submission = Submission("now", ".code/x", "sft", (job("7", "demos"), job("8", "sft", ("7",))))
    for run, number in ((demos, 1), (sft, 2)):
        part = Submission("now", ".code/x", "sft", submission.jobs[:number])
        write_jobs(run.folder, part, tmp_path)
    return demos, sft


def state(runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch, **entries: Entry) -> list[tuple[RunState, str]]:
    """`_7`: what the queue says of job 7."""
    known = {name.removeprefix("_"): entry for name, entry in entries.items()}
    monkeypatch.setattr(follow, "look_up", lambda ids: {i: known[i] for i in ids if i in known})
    return [(report.state, report.detail) for report in reports(runs_of(runs[1].folder))]


def test_the_queue_says_who_waits_for_whom(runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    told = state(runs, monkeypatch, _7=Entry("RUNNING", "None", "gpu01", "1:02"), _8=Entry("PENDING", "Dependency"))
    assert told == [(RunState.running, "on gpu01"), (RunState.pending, "for demos")]


def test_results_stand_whatever_the_queue_says(runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    runs[0].finish({})
    told = state(runs, monkeypatch, _7=Entry("NODE_FAIL"), _8=Entry("PENDING", "Resources"))
    assert told == [(RunState.finished, ""), (RunState.pending, "Resources")]


@pytest.mark.parametrize(
    ("entry", "expected", "detail"),
    [
        (Entry("OUT_OF_MEMORY"), RunState.failed, "ended OUT_OF_MEMORY without results"),
        (Entry("TIMEOUT"), RunState.failed, "ended TIMEOUT without results"),
        (Entry("COMPLETED"), RunState.lost, "ended COMPLETED without results"),
        (None, RunState.lost, "gone from the queue without results"),
        (Entry("CANCELLED"), RunState.cancelled, ""),
        (Entry("REQUEUED"), RunState.pending, ""),
        (Entry("COMPLETING"), RunState.running, ""),
    ],
    ids=lambda value: value.state if isinstance(value, Entry) else None,
)
def test_a_job_that_is_over_without_results(
    entry: Entry | None, expected: RunState, detail: str, runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs[0].folder / "logs").mkdir()
    (runs[0].folder / "logs/worker.log").write_text("first\nlast words\n")
    known = {"_7": entry} if entry else {}
    (demos, sft) = state(runs, monkeypatch, **known, _8=Entry("CANCELLED", "DependencyNeverSatisfied"))
    assert demos[0] is expected and demos[1].startswith(detail)
    assert ("first | last words" in demos[1]) == bool(detail)
    if expected in (RunState.failed, RunState.lost, RunState.cancelled):
        assert sft == (RunState.skipped, f"demos {expected.value}")


def test_what_the_worker_said_comes_before_what_slurm_says(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs[0].fail("no task was solved")
    runs[1].fail("skipped: demos failed")
    told = state(runs, monkeypatch, _7=Entry("FAILED"), _8=Entry("CANCELLED"))
    assert told == [(RunState.failed, "no task was solved"), (RunState.skipped, "demos failed")]
    told = state(runs, monkeypatch, _7=Entry("RUNNING"), _8=Entry("PENDING"))
    assert [report for report, _ in told] == [RunState.running, RunState.pending], "an earlier attempt's"


def test_a_run_of_this_machine_needs_no_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(frozen("stage=demos"), "demos", tmp_path / "demos")
    monkeypatch.setenv("PATH", "/nowhere")
    assert [report.state for report in reports([run])] == [RunState.unfinished]
    with run.claim():
        (report,) = reports([run])
        assert (report.state, report.detail) == (RunState.running, "on this machine")
    run.fail("why")
    assert [(report.state, report.detail) for report in reports([run])] == [(RunState.failed, "why")]


def test_jobs_find_their_files_from_any_folder(runs: tuple[Run, Run]) -> None:
    submission = read_jobs(runs[1].folder)
    assert submission is not None and [found.run for found in submission.jobs] == ["../demos", "."]
    assert submission.jobs[1].log == "logs/worker.log" and submission.whole == "."
    assert [found.id for found in submission.lineage(submission.jobs[1])] == ["7", "8"]


# ------------------------------------------------------------ SLURM's own words


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of SLURM's commands, alone on the path."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def says(slurm: Path, command: str, text: str, status: int = 0) -> None:
    (slurm / command).write_text(f"#!/bin/sh\ncat << END\n{text}\nEND\necho refused >&2\nexit {status}\n")
    (slurm / command).chmod(0o755)


def test_the_controller_first_then_the_accounting(slurm: Path) -> None:
    says(slurm, "squeue", "9_0|RUNNING|None|n1|1-02:03:04\n9_1|PENDING|Resources||0:00\n12|RUNNING|None|n2|0:05")
    says(slurm, "sacct", "9_2|CANCELLED by 1000\n9_3|\n5|TIMEOUT")
    found = look_up(["9_0", "9_1", "9_2", "9_3", "5"])
    assert found["9_0"].running and found["9_0"].seconds == 93784 and found["9_0"].nodes == "n1"
    assert found["9_1"].waiting and found["9_2"].state == "CANCELLED" and found["5"].state == "TIMEOUT"
    assert set(found) == {"9_0", "9_1", "9_2", "5"}


def test_a_forgotten_job_on_a_cluster_without_accounting_is_known_by_its_run_alone(slurm: Path) -> None:
    (slurm / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    (slurm / "squeue").chmod(0o755)
    assert look_up(["5"]) == {}


def test_a_controller_that_does_not_answer_is_no_lost_job(slurm: Path) -> None:
    says(slurm, "squeue", "", status=1)
    with pytest.raises(ConfigError, match="squeue: refused"):
        look_up(["5"])


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"squeue: not found here"):
        queue.look_up(["5"])
