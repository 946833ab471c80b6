"""Runs as jobs of a real SLURM: sweeps, chains, failures, and jobs that lose their place and go on.

A run whose job was disturbed ends as one that was left alone, bit for bit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import ROOT, lines, read, run_py, unlike
from patience import PATIENCE
from patience import wait_until as until
from slurm_cluster import Cluster

from tau2_exp.dispatch.slurm.jobs import SlurmJob, Submission, job_of, read_jobs, within

GRPO = ("steps=8", "prompts_per_step=1", "samples_per_prompt=3", "refill=0")
SMALL = (
    "hardware=slurm_cpu",
    "domain.limit=2",
    "domain.max_steps=60",
    "model.layers=1",
    "rollout.unparsable_limit=2",
    "reward.unparsable_penalty=0.1",  # so that groups differ even where no task is solved
)
CHAIN = (
    *SMALL,
    "name=chain",
    "stage.evaluate=false",
    "stage.sft.epochs=40",
    "stage.sft.batch_size=1",
    "stage.sft.lr=3e-3",
    "stage.rft.samples_per_prompt=2",
    "stage.rft.keep_partial=0",
    "stage.rft.epochs=2",
    "stage.rft.batch_size=1",
    *(f"stage.grpo.{setting}" for setting in GRPO),
)

KEY, SECRET = "TAU2_EXP_TEST_KEY", "sk-nobody-should-read-this"


def tau2_exp(*arguments: object) -> str:
    """`python -m tau2_exp …` as from any later shell; what it says."""
    command = [sys.executable, "-m", "tau2_exp", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=PATIENCE).stdout


def submitted(folder: Path) -> Submission:
    submission = read_jobs(folder)
    assert submission is not None
    return submission


def own_job(folder: Path) -> SlurmJob:
    job = job_of(folder)
    assert job is not None
    return job


def worker_log(folder: Path) -> str:
    path = within(folder, own_job(folder).log)
    return path.read_text() if path.exists() else ""


def find_runs(outputs: Path, stage: str) -> list[Path]:
    return [path.parent for path in sorted(outputs.glob("[!.]*/manifest.json")) if read(path)["stage"] == stage]


def finished(folder: Path) -> bool:
    return (folder / "results.json").exists()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def attended(cluster: Cluster, outputs: Path) -> Iterator[subprocess.Popen[str]]:
    """The chain, submitted by a command that stays; other tests need not wait for it."""
    counted = f"hardware.slurm.setup=['echo key of $(printenv {KEY} | wc -c) characters']"
    command = [sys.executable, ROOT / "run.py", f"outputs={outputs}", *CHAIN, "wait=true", counted]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env={**os.environ, KEY: SECRET}
    ) as process:
        until(lambda: (outputs / "chain/jobs.json").exists() or process.poll() is not None, "the chain is submitted")
        yield process
        process.kill()


@pytest.fixture(scope="module")
def followed(attended: subprocess.Popen[str], outputs: Path) -> Iterator[subprocess.Popen[str]]:
    """`logs --follow`, from another shell."""
    command = [sys.executable, "-m", "tau2_exp", "logs", "--follow", outputs / "chain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def chain(attended: subprocess.Popen[str]) -> str:
    """demos → sft → rft → grpo and their table, left alone; what the command said."""
    said, _ = attended.communicate(timeout=PATIENCE)
    assert attended.returncode == 0, said
    return said


# ------------------------------------------------------------ while the chain is done: a sweep, and a stage that fails


def test_a_sweep_is_an_array_done_with_the_code_as_it_was_submitted(followed, outputs: Path, tmp_path: Path) -> None:
    """Of a copy of the project, broken as soon as the sweep is in the queue; submitted from within a job."""
    for name in ("tau2_exp", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    later = "+hardware.slurm.options.begin=now+3"
    sweep = [*SMALL, "stage=demos", "seed=1,2,3,4", "name=sweep", "hardware.slurm.at_once=2", later]
    within_a_job = ["srun", "--mem=1500", "--ntasks=1", "--cpus-per-task=1"]  # whose settings must not be the sweep's
    command = [*within_a_job, sys.executable, tmp_path / "run.py", "-m", f"outputs={outputs}", *sweep]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (tmp_path / "tau2_exp/stages/__init__.py").write_text("raise SyntaxError('edited later')")

    jobs = submitted(outputs / "sweep").jobs
    assert [job.index for job in jobs] == [0, 1, 2, 3] and len({job.array for job in jobs}) == 1
    assert f"{jobs[0].array}_[0-3]" in done.stdout
    (script,) = (outputs / "sweep/slurm").glob("*_submission.sh")
    assert "--array=0-3%2" in script.read_text()
    folders = [within(outputs / "sweep", job.run) for job in jobs]
    until(lambda: all(finished(folder) for folder in folders), "the sweep's end")
    told = tau2_exp("status", outputs / "sweep")
    assert all(f"seed={seed}  finished" in told for seed in (1, 2, 3, 4)), told


def test_a_failed_stage_cancels_what_follows_and_says_why(attended, outputs: Path) -> None:
    short = ("model.context=64", "model.max_new_tokens=16")  # no conversation fits
    done = run_py(*SMALL, *short, "stage=rft", "name=doomed", "wait=true", outputs=outputs)
    assert done.returncode == 1
    sft, rft = outputs / "doomed-sft", outputs / "doomed"
    assert f"failed: {sft}: model.context=64: even the shortest" in done.stdout, done.stdout
    assert f"resume={rft}" in done.stdout
    assert "skipped" in read(rft / "failure.json")["message"]
    told = tau2_exp("status", rft)
    assert [line.split()[1] for line in told.splitlines()[1:4]] == ["finished", "failed", "skipped"], told
    assert not worker_log(rft), "it never began"
    assert "even the shortest" in tau2_exp("logs", sft)


def test_only_who_needs_gpus_asks_for_them_and_what_is_cancelled_says_so(attended, outputs: Path) -> None:
    gpus = ("hardware=gpu_1", "hardware.launcher=slurm", "+hardware.slurm.options.begin=now+1hour")
    done = run_py("stage=sft", "name=later", *gpus, outputs=outputs)
    assert done.returncode == 0, done.stderr
    asked = {
        job.stage: (outputs / f"later/slurm/{job.id}_submission.sh").read_text()
        for job in submitted(outputs / "later").jobs
    }
    assert "gpus" not in asked["demos"] and "--gpus-per-node=1" in asked["sft"]
    told = tau2_exp("status", outputs / "later")
    assert told.count("pending") == 2 and "BeginTime" in told, told
    again = run_py("stage=sft", "name=later", *gpus, outputs=outputs)
    assert "nothing to submit" in again.stdout, "nothing is submitted twice"
    assert tau2_exp("cancel", outputs / "later").count("cancelled") == 1
    until(lambda: tau2_exp("status", outputs / "later").count("cancelled") == 2, "both jobs are cancelled")


def test_the_template_does_a_frozen_run_by_hand(attended, cluster: Cluster, outputs: Path, tmp_path: Path) -> None:
    folder = tau2_exp("freeze", *SMALL, "stage=demos", "seed=7", "name=by_hand", f"outputs={outputs}").strip()
    path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
    template = ("--mem=1500", f"--output={tmp_path}/out", f"--chdir={ROOT}", str(ROOT / "launchers/job.sbatch"), folder)
    cluster.ask("env", path, "sbatch", *template)
    until(lambda: finished(Path(folder)), "the run's end")


# ------------------------------------------------------------ the chain, and the same again under disturbance


def test_a_chain_is_one_job_a_run_each_after_what_it_stands_on(
    followed: subprocess.Popen[str], chain: str, outputs: Path
) -> None:
    jobs = submitted(outputs / "chain").jobs
    assert [job.stage for job in jobs] == ["demos", "sft", "rft", "grpo", "pipeline"]
    ids = [job.id for job in jobs]
    assert [set(job.after) for job in jobs] == [set(), {ids[0]}, {ids[1]}, {ids[2]}, set(ids[:4])]
    assert f"finished: {outputs / 'chain'}" in chain
    for job in jobs:
        folder = within(outputs / "chain", job.run)
        assert own_job(folder).id == job.id and job.command.endswith(f" work {folder}")
        assert f"job {job.id}.0 on" in worker_log(folder)
        assert (folder / read(folder / "manifest.json")["code"] / "tau2_exp/dispatch/worker.py").is_file()
    assert tau2_exp("status", outputs / "chain").count("finished") == 5
    assert "grpo" in tau2_exp("logs", outputs / "chain-grpo")
    told, _ = followed.communicate(timeout=PATIENCE)
    assert followed.returncode == 0
    assert told.index("sft training:") < told.index("rft training:") < told.index("grpo turn_level alpha")


def test_keys_travel_by_the_environment_and_stand_nowhere(chain: str, outputs: Path) -> None:
    (demos, *_) = submitted(outputs / "chain").jobs
    assert f"key of {len(SECRET) + 1} characters" in within(outputs / "chain", demos.output).read_text()
    written = [path for path in (outputs / "chain").parent.rglob("*") if path.is_file()]
    assert len(written) > 50 and not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in chain


def grpo_again(reference: Path, outputs: Path, *overrides: str) -> Path:
    """GRPO from the chain's RFT once more, submitted; its folder."""
    grpo = ("stage=grpo", f"parent={reference}/chain-rft", *(f"stage.{setting}" for setting in GRPO))
    done = run_py(*SMALL, *grpo, *overrides, outputs=outputs)
    assert done.returncode == 0, done.stderr
    (folder,) = find_runs(outputs, "grpo")
    assert read(folder / "manifest.json")["address"] == read(reference / "chain-grpo/manifest.json")["address"]
    until(lambda: lines(folder / "metrics.jsonl") >= 2, "two steps of GRPO")
    return folder


@pytest.fixture(scope="module")
def preempted(chain, cluster: Cluster, outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that saves only when it is told to, of a job that had to make room; it is in the queue again."""
    if cluster.sandbox is None:
        pytest.skip("preempting wants a partition of low priority, as the sandbox has")
    low = ("hardware.slurm.partition=low", "stage.save_every=1000")
    folder = grpo_again(outputs, tmp_path_factory.mktemp("preempted"), *low)
    cluster.preempted_by(seconds=1)
    until(lambda: "stopped and saved" in worker_log(folder), "the worker saved")
    return folder


@pytest.fixture(scope="module")
def displaced(preempted, cluster: Cluster, outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a job whose node went down; it runs again."""
    folder = grpo_again(outputs, tmp_path_factory.mktemp("displaced"), "stage.save_every=1")
    job = own_job(folder).id
    node = cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    assert not finished(folder)
    cluster.lose(node)
    try:
        until(lambda: bool(re.search(rf"job {job}\.[1-9]\d* on", worker_log(folder))), "the job runs again")
    finally:
        cluster.bring_back(node)
    return folder


def test_a_preempted_job_goes_on_to_the_same_end(preempted: Path, displaced: Path, outputs: Path) -> None:
    until(lambda: finished(preempted), "the preempted run's end")
    log = worker_log(preempted)
    again = rf"job {own_job(preempted).id}\.[1-9]\d* on"  # SLURM may count a requeue that was asked for twice as two
    assert re.search(again, log) and "resuming after step" in log
    assert unlike(outputs / "chain-grpo", preempted) == []


def test_a_job_that_lost_its_node_goes_on_to_the_same_end(displaced: Path, outputs: Path) -> None:
    until(lambda: finished(displaced), "the end of the run that lost its node")
    log = worker_log(displaced)
    assert "resuming after step" in log and "stopped and saved" not in log, (
        "it went on from what it saved after each step"
    )
    assert unlike(outputs / "chain-grpo", displaced) == []


def test_what_is_finished_is_not_submitted_again(chain, outputs: Path) -> None:
    again = run_py(*CHAIN, outputs=outputs)
    assert again.returncode == 0 and "nothing to submit" in again.stdout, again.stdout + again.stderr


# ------------------------------------------------------------ several nodes

STAND_IN = ROOT / "tests/engines/slime/stand_in"
TRAINER = """
import runpy, sys
import ray
sys.path.insert(0, {folder!r})
import where
given, sys.argv = sys.argv, ["where.py", "2"]
where.main()
ray.shutdown()
sys.argv = given
runpy.run_path({train!r}, run_name="__main__")
"""


def slime_folder(folder: Path) -> Path:
    """The stand-in for slime's folder; before it trains, it says on which nodes Ray's tasks run."""
    folder.mkdir()
    for path in STAND_IN.iterdir():
        if path.name != "train.py":
            (folder / path.name).symlink_to(path)
    (folder / "train.py").write_text(TRAINER.format(folder=str(STAND_IN), train=str(STAND_IN / "train.py")))
    return folder


def driver(folder: Path) -> Path:
    """What lists a node's GPUs, where there are none."""
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Stand-in (UUID: none)'\n")
    (folder / "nvidia-smi").chmod(0o755)
    return folder


def test_two_nodes_bring_up_ray_train_together_and_go_down(
    chain, cluster: Cluster, outputs: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'ray[default]')")
    if cluster.sandbox is None:
        pytest.skip("a real cluster would give real GPUs to a stand-in of slime's")
    model = outputs / "chain-sft/checkpoints/last"
    settings = (
        "engine=slime",
        f"engine.slime.root={slime_folder(tmp_path / 'slime')}",
        "engine.slime.tensor_parallel=1",
        "hardware=slurm_2x8gpu",
        "hardware.gpus=1",
        "hardware.slurm.cpus=1",
        "hardware.slurm.memory_gb=7",
        f"hardware.slurm.setup=['export PATH={driver(tmp_path / 'bin')}:$PATH']",
        f"model.path={model}",
        f"model.vocab_size={read(model / 'config.json')['vocab_size']}",
    )
    stage = ("stage=sft", f"parent={outputs}/chain-demos", "stage.epochs=1", "stage.batch_size=2", "name=pair")
    done = run_py(*SMALL, *settings, *stage, "wait=true", outputs=outputs)
    folder = outputs / "pair"
    assert done.returncode == 0, done.stdout + done.stderr + tau2_exp("logs", folder)
    (ran,) = re.findall(r"ran on (\S+) (\S+)$", (folder / "logs/train.log").read_text(), re.MULTILINE)
    assert "127.0.0.2" in ran and len(set(ran)) == 2
    assert "joining 127.0.0.1" in (folder / "logs/node-1.log").read_text()
    assert read(folder / "results.json")["steps"] == 1
