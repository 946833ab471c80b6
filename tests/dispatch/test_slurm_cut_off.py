"""A submission that is cut off: no job that nobody knows, and no file of one that was refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import ROOT, read, run_py
from patience import wait_until
from slurm_cluster import Cluster

from tau2_exp.dispatch.slurm.jobs import read_jobs
from tests.dispatch.test_slurm import tau2_exp

# Jobs that stay in the queue.
CHAIN = ("hardware=slurm_cpu", "domain.limit=2", "stage=rft", "name=chain", "+hardware.slurm.options.begin=now+1hour")
SBATCH = """#!/bin/sh
echo x >> {folder}/calls
if [ $(wc -l < {folder}/calls) = {call} ]; then {before}; fi
{sbatch} "$@" || exit
if [ $(wc -l < {folder}/calls) = {call} ]; then {after}; fi
"""


@pytest.fixture
def outputs(tmp_path: Path, cluster: Cluster) -> Iterator[Path]:
    """An outputs folder, of a name that sbatch, a shell and Hydra would each read otherwise."""
    folder = tmp_path / "100% done, it's ü"
    yield folder
    for number in in_queue():
        cluster.ask("scancel", number)


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster):
    """Has the call of that number do something else, before SLURM hears of it or after."""
    real, folder = shutil.which("sbatch"), tmp_path / "bin"
    folder.mkdir()

    def intercept(call: int, before: str = ":", after: str = ":") -> None:
        (folder / "calls").write_text("")
        text = SBATCH.format(folder=folder, sbatch=real, call=call, before=before, after=after)
        (folder / "sbatch").write_text(text)
        (folder / "sbatch").chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    intercept(0)
    return intercept


def in_queue() -> list[str]:
    done = subprocess.run(
        ["squeue", "--noheader", "--states=PENDING", "--format=%i %j"], capture_output=True, text=True, check=True
    )
    return [line.split()[0] for line in done.stdout.splitlines() if line.split()[1].startswith("chain-")]


def given(outputs: Path) -> Path:
    """As Hydra is to read it."""
    return Path("'" + str(outputs).replace("'", r"\'") + "'")


def states(outputs: Path) -> list[str]:
    """Of the chain's runs, as `status` says."""
    lines = tau2_exp("status", outputs / "chain").splitlines()
    names = ("chain-demos", "chain-sft", "chain ")
    return [next(line.split()[1] for line in lines if line.strip().startswith(name)) for name in names]


def resume(outputs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), f"resume={given(outputs / 'chain')}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("after", [True, False], ids=["the job is in the queue", "it is not"])
def test_a_kill_in_the_middle_leaves_no_job_that_nobody_knows(outputs: Path, sbatch, after: bool) -> None:
    """At the second of three calls of sbatch, by SIGKILL."""
    kill = "kill -9 $PPID; exit 1"
    sbatch(2, after=kill) if after else sbatch(2, before=kill)
    done = run_py(*CHAIN, outputs=given(outputs))
    assert done.returncode == -signal.SIGKILL and len(in_queue()) == 1 + after
    assert states(outputs) == ["pending", "pending" if after else "unfinished", "unfinished"]
    first = in_queue()[0]
    sbatch(0)

    again = resume(outputs)
    assert again.returncode == 0, again.stderr
    assert len(in_queue()) == 3 and first in in_queue(), "one job a run"
    assert states(outputs) == ["pending"] * 3
    submission = read_jobs(outputs / "chain")
    assert submission is not None and sorted(job.id for job in submission.jobs) == sorted(in_queue())
    assert submission.jobs[1].after == (first,)
    assert "submitted 2 jobs to SLURM" in again.stdout, "the first was in the queue already"

    tau2_exp("cancel", outputs / "chain")
    wait_until(lambda: not in_queue(), "all of it is cancelled")


def test_what_was_cut_off_can_be_cancelled_as_it_is(outputs: Path, sbatch) -> None:
    sbatch(2, after="kill -9 $PPID; exit 1")
    run_py(*CHAIN, outputs=given(outputs))
    assert len(in_queue()) == 2
    assert "cancelled" in tau2_exp("cancel", outputs / "chain")
    wait_until(lambda: not in_queue(), "both are cancelled")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_submission_that_is_told_to_end_takes_back_what_it_submitted(outputs: Path, sbatch, number: int) -> None:
    sbatch(3, after=f"kill -{int(number)} $PPID; sleep 1")
    done = run_py(*CHAIN, outputs=given(outputs))
    assert done.returncode == 130 and "nothing is submitted; to submit it" in done.stderr, done.stderr
    wait_until(lambda: not in_queue(), "nothing is in the queue")
    assert states(outputs) == ["unfinished"] * 3
    assert not (outputs / "chain/jobs.json").exists()


def test_where_slurm_stops_to_answer_the_jobs_stay_known(outputs: Path, sbatch, monkeypatch) -> None:
    """The controller is gone at the third call: neither sbatch nor scancel is heard."""
    gone = Path(os.environ["PATH"].partition(":")[0])
    script = "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n"
    sbatch(3, before=f"for c in squeue scancel; do cp {gone}/no {gone}/$c; done; exec {gone}/no")
    (gone / "no").write_text(script)
    (gone / "no").chmod(0o755)
    done = run_py(*CHAIN, outputs=given(outputs))
    assert done.returncode == 2 and "Jobs may be in the queue" in done.stderr and "Traceback" not in done.stderr
    for name in ("squeue", "scancel"):
        (gone / name).unlink()
    assert len(in_queue()) == 2 and states(outputs) == ["pending", "pending", "unfinished"]
    tau2_exp("cancel", outputs / "chain")
    wait_until(lambda: not in_queue(), "both are cancelled")


@pytest.mark.parametrize("sweep", [False, True])
def test_a_refused_submission_leaves_nothing(outputs: Path, sbatch, sweep: bool) -> None:
    nowhere = ("hardware.slurm.partition=nowhere", *(["-m", "seed=1,2"] if sweep else []))
    done = run_py(*CHAIN, *nowhere, outputs=given(outputs))
    assert done.returncode == 2 and done.stderr.startswith("error: sbatch: ") and done.stderr.count("\n") == 1
    assert not outputs.exists() and not in_queue()


def test_a_run_that_is_there_is_left_as_it_was_by_a_refused_submission(outputs: Path, sbatch) -> None:
    local = [text for text in CHAIN if "slurm" not in text]
    frozen = tau2_exp("freeze", *local, f"outputs={given(outputs)}").splitlines()
    failure = Path(frozen[-1]) / "failure.json"
    failure.write_text('{"message": "why", "traceback": ""}')
    before = {path: path.read_bytes() for path in outputs.rglob("*") if path.is_file() and path.suffix == ".json"}
    changed = {path for path in before if path.name in ("config.json", "manifest.json")}  # they say what was asked
    done = run_py(*CHAIN, "hardware.slurm.partition=nowhere", outputs=given(outputs))
    assert done.returncode == 2
    after = {path: path.read_bytes() for path in outputs.rglob("*") if path.is_file() and path.suffix == ".json"}
    assert {path: text for path, text in after.items() if path not in changed and ".code" not in path.parts} == {
        path: text for path, text in before.items() if path not in changed
    }
    assert read(failure)["message"] == "why"
    assert not [path for path in outputs.rglob("*_submission.*") if ".code" not in path.parts]


def test_jobs_of_such_a_folder_write_where_they_are_looked_for(outputs: Path, cluster: Cluster) -> None:
    """`%` in a path is no pattern of sbatch's."""
    settings = ("hardware=slurm_cpu", "domain.limit=2", "stage=demos", "name=chain", "wait=true")
    done = run_py(*settings, outputs=given(outputs))
    assert done.returncode == 0, done.stdout + done.stderr
    submission = read_jobs(outputs / "chain")
    assert submission is not None
    (job,) = submission.jobs
    assert "Loading pickle" in (outputs / "chain" / job.output).read_text()
    assert (outputs / "chain/logs/worker.log").exists()
