"""From a command line to its exit status, with stages that only say that they ran."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.launch import launch
from tau2_exp.dispatch.local import processes as local
from tau2_exp.dispatch.local import sweep
from tau2_exp.dispatch.local.sweep import read_sweep, sweep_runs
from tau2_exp.runs.run import Run, RunStatus

STAND_IN = (sys.executable, "-u", "-m", "tests.dispatch.stand_in_worker")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WORKER", STAND_IN)
    monkeypatch.chdir(ROOT)


def folders(outputs: Path, stage: str) -> list[Run]:
    return [Run.open(path) for path in sorted(outputs.iterdir()) if f"-{stage}-" in path.name]


def start(outputs: Path, *overrides: str, before: str = "") -> subprocess.Popen[str]:
    """`launch` in a process and a group of its own, to be ended from outside."""
    code = (
        "import signal, sys\nfrom tau2_exp.dispatch.local import processes as local\n"
        "from tau2_exp.dispatch.launch import launch\n"
        f"local.WORKER = {STAND_IN!r}\n{before}\n"
        f"sys.exit(launch({[f'outputs={outputs}', *overrides]!r}, False, []))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    read_until(process, "begins")
    return process


def read_until(process: subprocess.Popen[str], said: str) -> None:
    assert process.stdout is not None
    assert any(said in line for line in process.stdout), f"it ended without: {said}"


def wait_for(run: Run, status: RunStatus) -> None:
    wait_until(lambda: run.status is status, f"the run is {status.value}")


def test_a_chain_is_done_in_order_and_found_the_second_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [f"outputs={tmp_path}", "stage=rft"]
    assert launch(command, False, ["run.py"]) == 0
    told = capfd.readouterr().out
    assert [line for line in told.splitlines() if "begins" in line] == ["demos begins", "sft begins", "rft begins"]
    assert "table of rft" in told
    (run,) = folders(tmp_path, "rft")
    assert run.results == {"parent": "sft"}
    assert run.manifest.hardware and run.manifest.hardware["cores"] >= 1

    assert launch(command, False, ["run.py"]) == 0
    again = capfd.readouterr().out
    assert "begins" not in again and "table of rft" in again
    assert len(folders(tmp_path, "rft")) == 1


def test_a_failed_stage_stops_its_chain_and_says_where_and_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch([f"outputs={tmp_path}", "stage=rft", "seed=13"], False, []) == 1
    told = capfd.readouterr()
    (sft,), (rft,) = folders(tmp_path, "sft"), folders(tmp_path, "rft")
    assert f"failed: {sft.folder}: ValueError: unlucky seed" in told.err
    assert "Traceback" not in told.err
    assert (sft.status, rft.status) == (RunStatus.failed, RunStatus.unfinished)
    assert "unlucky" in (sft.folder / "failure.json").read_text()


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch([f"outputs={tmp_path}/outputs", "stage=grpo", "reward.alpha=0,0.5", "dry_run=true"], True, []) == 0
    told = capsys.readouterr().out
    assert told.count("# sft ") == 1 and "alpha=0.0" in told and "alpha=0.5 (telecom 0.8)" in told
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_survives_a_failing_job_and_goes_on_with_what_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [f"outputs={tmp_path}", "stage=rft", "seed=1,13", "stage.epochs=1,2", "name=study"]
    assert launch(command, True, ["run.py", "-m"]) == 1
    told = capfd.readouterr().out
    study = read_sweep(tmp_path / "study")
    runs = sweep_runs(tmp_path / "study", study)
    assert [job.overrides[2:4] for job in study.jobs] == [
        (f"seed={s}", f"stage.epochs={e}") for s in (1, 13) for e in (1, 2)
    ]
    assert [run.status.value for run in runs] == ["finished", "finished", "unfinished", "unfinished"]
    assert len(folders(tmp_path, "sft")) == 2, "one for each seed, shared by both epochs"
    assert "unlucky seed" in told and "not finished: seed=13 stage.epochs=1" in told
    assert f"resume={tmp_path / 'study'}" in told
    assert runs[0].config.logger.group == "study"

    (tmp_path / "lucky.py").write_text("")
    worker = (tmp_path / "worker.py").resolve()
    worker.write_text((ROOT / "tests/dispatch/stand_in_worker.py").read_text().replace("== 13", "== -1"))
    monkeypatch.setattr(local, "WORKER", ("env", f"PYTHONPATH={ROOT}", sys.executable, str(worker)))
    assert launch([f"resume={tmp_path / 'study'}"], False, []) == 0
    told = capfd.readouterr().out
    assert "2 of them finished" in told
    folder = tmp_path / "study"
    assert told.endswith(f"finished: {folder}\n  python -m tau2_exp report {folder} --html {folder}/page\n")
    assert all(run.status is RunStatus.finished for run in runs)


def test_a_bad_job_refuses_the_whole_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward\.alpha=-1"):
        launch([f"outputs={tmp_path}/outputs", "stage=grpo", "reward.alpha=0,-1"], True, [])
    assert not (tmp_path / "outputs").exists()


def test_resume_goes_by_the_frozen_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch([f"outputs={tmp_path}", "stage=sft", "seed=13"], False, []) == 1
    (sft,) = folders(tmp_path, "sft")
    with pytest.raises(ConfigError, match=r"seed=1: resume=.* remove one"):
        launch([f"resume={sft.folder}", "seed=1"], False, [])
    with pytest.raises(ConfigError, match="no run folder"):
        launch([f"resume={tmp_path}/nothing"], False, [])
    assert launch([f"resume={sft.folder}"], False, []) == 1
    assert capfd.readouterr().out.count("demos begins") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_is_ended_ends_its_worker(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "stage=demos", "seed=99")
    (run,) = folders(tmp_path, "demos")
    wait_for(run, RunStatus.running)
    os.kill(process.pid, number)
    process.wait(timeout=PATIENCE)
    wait_for(run, RunStatus.unfinished)


ENDINGS = {
    "Ctrl-C": (os.killpg, signal.SIGINT),  # a terminal tells the worker too
    "SIGINT": (os.kill, signal.SIGINT),
    "SIGTERM": (os.kill, signal.SIGTERM),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_told_to_end_it_saves_first_and_told_twice_it_ends_at_once(tmp_path: Path, ending: str) -> None:
    tell, number = ENDINGS[ending]
    process = start(tmp_path / "once", "stage=demos", "seed=98")
    tell(process.pid, number)
    said, _ = process.communicate(timeout=PATIENCE)
    (run,) = folders(tmp_path / "once", "demos")
    assert process.returncode != 0 and (run.folder / "saved").exists()
    assert f"{run.folder}: stopped and saved; run the same command to continue" in said

    process = start(tmp_path / "twice", "stage=demos", "seed=97")
    tell(process.pid, number)
    read_until(process, "told")
    tell(process.pid, number)
    said, _ = process.communicate(timeout=PATIENCE)
    (run,) = folders(tmp_path / "twice", "demos")
    assert process.returncode != 0 and not (run.folder / "saved").exists()
    assert f"{run.folder}: interrupted; run the same command to continue" in said


def test_an_interrupted_sweep_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run_side_by_side", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch([f"outputs={tmp_path}", "stage=demos", "seed=1,2", "name=study"], True, [])
    assert f"to continue: resume={tmp_path / 'study'}" in capsys.readouterr().err


def test_a_worker_takes_no_library_from_the_folder_that_it_starts_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (tmp_path / "yaml.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    run = Run.create(compose_config(["stage=demos"]), "demos", tmp_path / "demos")
    run.finish({})
    assert local.run_attached([run]) == 0


@pytest.mark.parametrize("many", [False, True], ids=["run", "sweep"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, many: bool) -> None:
    for name in ("../x", "a/b", "/etc/x", ".hidden"):
        with pytest.raises(ConfigError, match=f"name={name}: must be a name"):
            launch([f"outputs={tmp_path}/outputs", "stage=demos", "seed=1", f"name={name}"], many, [])
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------ what a person sees, and what goes wrong around a run


def test_a_local_run_keeps_its_log_and_ends_with_the_next_commands(tmp_path: Path, capfd) -> None:
    outputs = tmp_path / "it's ü"
    setting = "outputs='" + str(outputs).replace("'", r"\'") + "'"
    assert launch([setting, "stage=sft", "name=mine", "seed=13"], False, []) == 1
    quoted = str(outputs / "mine").replace("'", "'\"'\"'")
    assert f"python -m tau2_exp status '{quoted}'" in capfd.readouterr().err
    demos, sft = outputs / "mine-demos/logs/worker.log", outputs / "mine/logs/worker.log"
    assert demos.read_text() == "demos begins\n"
    assert sft.read_text().startswith("sft begins\nfailed: ") and "unlucky seed" in sft.read_text()
    assert launch([setting, "stage=demos", "name=other"], False, []) == 0
    said = capfd.readouterr().out
    assert "demos begins" in said and f"python -m tau2_exp report '{quoted[:-4]}other'" in said.splitlines()[-1]


def test_a_few_tasks_are_said_to_be_no_result(tmp_path: Path, capfd) -> None:
    assert launch([f"outputs={tmp_path}", "stage=demos", "domain.limit=4"], False, []) == 0
    assert "4 tasks a split (domain.limit) are no result" in capfd.readouterr().out
    assert launch([f"outputs={tmp_path}", "stage=demos"], False, []) == 0
    assert "no result" not in capfd.readouterr().out


def test_the_heading_of_a_sweep_counts(tmp_path: Path, capfd) -> None:
    assert launch([f"outputs={tmp_path}", "stage=demos", "seed=1,2,13", "name=study"], True, []) == 0
    told = capfd.readouterr().out
    assert f"sweep {tmp_path}/study: 3 jobs, 0 of them finished" in told
    assert [line for line in told.splitlines() if line.startswith("finished ")][-1].endswith("3 of them finished")


def test_a_closed_terminal_is_heard_as_a_request_to_save(tmp_path: Path) -> None:
    """The terminal hangs up: kernel and shell say so, and nothing that is printed after can be seen."""
    code = (
        "import sys\nfrom tau2_exp.dispatch.local import processes as local\n"
        "from tau2_exp.dispatch.launch import launch\n"
        f"local.WORKER = {STAND_IN!r}\n"
        f"sys.exit(launch(['outputs={tmp_path}', 'stage=demos', 'seed=98'], False, []))"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    while b"begins" not in said:
        said += os.read(terminal, 1024)
    (run,) = folders(tmp_path, "demos")
    os.close(terminal)
    wait_until(lambda: (run.folder / "saved").exists(), "it saved")
    os.waitpid(pid, 0)
    wait_until(lambda: run.status is RunStatus.unfinished, "its worker ended")
    assert "stopped and saved" in (run.folder / "logs/worker.log").read_text()


def test_one_that_was_started_deaf_to_a_closed_terminal_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, "stage=demos", "seed=99", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    (run,) = folders(tmp_path, "demos")
    wait_for(run, RunStatus.running)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(1)  # what would end it has that long
    assert process.poll() is None and run.status is RunStatus.running
    process.terminate()
    process.wait(PATIENCE)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["name=" + "x" * 300], "name too long|longer|at most"),
        (["outputs={folder}/file"], "/file: is a file; outputs=.*/file must be a folder"),
        (["outputs={folder}/file/x"], "/file: is a file; outputs=.*/file/x must be a folder"),
        (["outputs=/proc/nothing"], "No such file|not permitted|denied"),
        (["name=taken"], "name=taken: .* already exists"),
    ],
    ids=["a long name", "a file in the folder's place", "a file above it", "a read-only place", "a name that is taken"],
)
def test_what_stands_in_the_way_of_a_run_is_one_line(tmp_path: Path, overrides: list[str], told: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "outputs/taken").mkdir(parents=True)
    given = [f"outputs={tmp_path}/outputs", *(text.format(folder=tmp_path) for text in overrides), "stage=demos"]
    command = [sys.executable, str(ROOT / "run.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2 and re.fullmatch(f"error: .*({told}).*\n", done.stderr, re.IGNORECASE), done.stderr


def test_a_full_disk_is_one_line_also_where_the_failure_cannot_be_noted(tmp_path: Path, capfd) -> None:
    """Seed 28: the stage, and then whoever would note why it failed, finds no space."""
    assert launch([f"outputs={tmp_path}", "stage=demos", "seed=28", "name=mine"], False, []) == 1
    told = capfd.readouterr().err
    assert "No space left on device" in told and "failure.json cannot be written" in told and "Traceback" not in told
