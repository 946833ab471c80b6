"""What is made is whole or not there, and what a kill left behind is cleared by whoever comes next."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tau2_exp import files
from tau2_exp.compose.composition import compose_config
from tau2_exp.dispatch.freeze import freeze
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.slurm import snapshot as snapshots
from tau2_exp.files import clear_leftovers, part_of, whole_file, whole_folder
from tau2_exp.jsonl import JsonlWriter, write_json
from tau2_exp.runs.run import Run

ROOT = Path(__file__).resolve().parents[1]


def plant(folder: Path, name: str) -> list[Path]:
    """What processes that were killed left of `name`, of this number too: containers give numbers again."""
    folder.mkdir(parents=True, exist_ok=True)
    left = [folder / f".{name}.part{os.getpid()}", folder / f".{name}.part1", part_of(folder / name)]
    left[0].mkdir()
    (left[0] / "config.json").write_text("half")
    for path in left[1:]:
        path.write_text("half")
    return left


def test_a_leftover_of_the_same_process_number_stops_no_freeze_and_is_cleared(tmp_path: Path) -> None:
    planted = plant(tmp_path, "mine")
    precious = tmp_path / ".mine.partly"
    precious.mkdir()
    config = compose_config(["stage=demos", f"outputs={tmp_path}", "name=mine"])
    run = freeze(Planner(tmp_path).plan(config, lambda: None), [])  # type: ignore[arg-type]
    assert run.folder == tmp_path / "mine" and not any(path.exists() for path in planted)
    assert precious.exists(), "a person's"
    planted = plant(run.folder, "config.json")
    with run.claim():
        assert not any(path.exists() for path in planted)


def test_leftovers_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    plant(code / "tau2_exp", "config.py")
    (code / "tau2_exp/config.py").write_text("whole")
    monkeypatch.setattr(snapshots, "ROOT", code)
    planted = plant(tmp_path / "outputs/.code", "x")
    copy = snapshots.snapshot(tmp_path / "outputs")
    assert [path.name for path in copy.rglob("*") if path.is_file()] == ["config.py"]
    assert not any(path.exists() for path in planted)


def test_what_is_being_made_is_no_leftover(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as folder, whole_file(tmp_path / "file") as file:
        (folder / "a").write_text("a")
        file.write(b"b")
        file.flush()
        clear_leftovers(tmp_path)
    assert (tmp_path / "folder/a").read_text() == "a" and (tmp_path / "file").read_text() == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_a_kill_left_half_made_is_cleared(tmp_path: Path) -> None:
    code = (
        "import pathlib, time\nfrom tau2_exp.files import whole_folder\n"
        f"with whole_folder(pathlib.Path({str(tmp_path / 'made')!r})) as part:\n"
        "    (part / 'half').touch()\n    print('begun', flush=True)\n    time.sleep(3600)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert maker.stdout is not None and maker.stdout.readline() == "begun\n"
    clear_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "it is at work"
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_as_long_as_a_file_system_takes_leave_room_for_a_part(tmp_path: Path) -> None:
    write_json(tmp_path / ("ü" * 127), {})
    with pytest.raises(OSError) as told:
        write_json(tmp_path / ("x" * 300), {})
    assert told.value.errno == errno.ENAMETOOLONG and str(told.value.filename).endswith("x" * 300)


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "old.json", {"a": 1})
    with pytest.raises(OSError) as told, whole_file(tmp_path / "old.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told.value.filename == str(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == '{\n  "a": 1\n}\n' and len(list(tmp_path.iterdir())) == 1
    lines = JsonlWriter(tmp_path / "lines.jsonl")
    lines._file = open("/dev/full", "ab")  # noqa: SIM115
    with pytest.raises(OSError) as told:
        lines.write({})
    assert told.value.filename == str(tmp_path / "lines.jsonl")
    with pytest.raises(OSError):
        lines.close()


def test_two_who_make_the_same_folder_at_once_get_one(tmp_path: Path) -> None:
    config = compose_config(["stage=demos"])
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "run"):
        Run.create(config, "a" * 64, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert files.is_part(part_of(tmp_path / "run"))
