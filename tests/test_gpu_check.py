"""The GPU check on a CPU with tiny shapes: its parts stand alone, and a stopped check leaves what it had."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from flows import find

from benchmarks.gpu_check import check, smollm, target, weights
from benchmarks.gpu_check.parts import PARTS, Part
from benchmarks.gpu_check.report import Outcome, Report
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.table import status, table
from tau2_exp.config import OutOfMemory
from tests.conftest import ROOT

PATIENCE = 60.0


@pytest.fixture
def signals() -> Iterator[None]:
    """The check takes signals for itself; the tests get theirs back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def read(out: Path) -> dict:
    return json.loads((out / "gpu_check.json").read_text())


def test_an_error_in_one_part_does_not_stop_the_next(tmp_path, monkeypatch, signals, capfd):
    card, attention = PARTS[:2]
    monkeypatch.setattr(check, "PARTS", (Part("nowhere", "A part that breaks", 0.1), card, attention))
    settings = Settings("cpu", True, tmp_path, None)
    assert check.run(settings, 5.0, ["nowhere", "card", "attention"], {"commit": "abc", "date": "today"}) == 1
    parts = read(tmp_path)["parts"]
    assert parts["nowhere"]["status"] == "failed" and "ModuleNotFoundError" in parts["nowhere"]["reason"]
    assert parts["card"]["status"] == parts["attention"]["status"] == "done"
    assert parts["card"]["records"][0]["figures"]["TFLOP/s"] > 0
    sites = {record["name"]: record for record in parts["attention"]["records"]}
    assert len(sites) == 12
    for record in sites.values():
        assert record["figures"]["backend"] in ("flash", "math") and record["figures"]["best ms"] > 0
    assert "flash: lower right, repeated heads" in sites["training branch, 4B"]["details"]["ms of each"]
    text = (tmp_path / "gpu_check.md").read_text()
    assert "commit: abc" in text and "| decode, 0.6B | 6 × 1 of 192 | flash |" in text
    assert "[card] bf16 matrix product: TFLOP/s" in capfd.readouterr().out


def test_no_room_on_the_card_is_a_finding_of_the_engine_and_of_torch(capsys):
    report = Report("steps", io.StringIO())

    def fail(error: Exception) -> dict:
        raise error

    for error in (OutOfMemory("out of memory while training"), type("OutOfMemoryError", (RuntimeError,), {})("CUDA")):
        assert report.attempt("SFT", partial(fail, error)) is Outcome.no_room
    assert report.attempt("SFT", partial(fail, ValueError("else"))) is Outcome.failed
    assert "out of memory yes" in capsys.readouterr().out


def test_a_part_without_time_is_skipped_and_one_that_hangs_is_ended(tmp_path, monkeypatch, signals):
    monkeypatch.setattr(check, "LEAST_SECONDS", 0.0)
    settings = Settings("cpu", True, tmp_path, None)
    assert check.run(settings, 0.005, ["card"], {}) == 1
    assert "was not done after 0 s" in read(tmp_path)["parts"]["card"]["reason"]
    monkeypatch.setattr(check, "LEAST_SECONDS", 5.0)
    assert check.run(settings, 0.005, ["card"], {}) == 0
    assert read(tmp_path)["parts"]["card"]["status"] == "skipped"


@pytest.mark.parametrize(("number", "code", "status"), [(15, 143, "stopped"), (9, -9, "running")])
def test_a_stopped_check_leaves_what_it_had_and_nothing_running(tmp_path, number, code, status):
    command = [str(ROOT / "launchers" / "gpu_check.sh"), "run", "--device", "cpu", "--tiny", "--minutes", "1"]
    command += ["--parts", "attention", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHON": sys.executable}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: process.poll() is not None or _told(tmp_path, "continued turn, 0.6B"))
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
    parts = read(tmp_path)["parts"]
    assert parts["attention"]["status"] == status and parts["attention"]["records"]
    assert "continued turn, 0.6B" in (tmp_path / "gpu_check.md").read_text()
    until(lambda: not _processes(str(tmp_path)))


def _told(out: Path, record: str) -> bool:
    """Whether both files have it: the page is written after the data."""
    page = out / "gpu_check.md"
    return page.exists() and record in page.read_text()


def _processes(word: str) -> list[str]:
    """Processes of this machine whose command line holds the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if word.encode() in line:
            found.append(path.parent.name)
    return found


def until(reached) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_the_table_has_a_column_a_card_from_its_newest_file(tmp_path):
    assert "| SFT step, Qwen3-0.6B shape | not measured |" in table(tmp_path)

    def write(name: str, date: str, rate: float, **facts) -> None:
        full = {"name": "SFT, 0.6B, 16384 tokens a pass", "figures": {"out of memory": True}}
        step = {"name": "SFT, 0.6B, 8192 tokens a pass", "figures": {"tokens/s": rate, "MFU": 0.4}}
        beside = {"name": "SFT, 0.6B, transformers padded", "failed": "ValueError: a | b"}
        parts = {
            "steps": {"status": "failed", "reason": "x", "records": [full, step, beside]},
            "decoding": {"status": "skipped", "reason": "no time was left", "records": []},
        }
        data = {"card": "H100", "commit": "abc", "date": date, "device": "cuda", "tiny": False, "parts": parts}
        (tmp_path / f"gpu_check-{name}.json").write_text(json.dumps(data | facts))

    write("old", "2026-11-01 10:00 UTC", 1.0)
    write("new", "2026-11-02 10:00 UTC", 20000.0)
    write("tiny", "2026-11-03 10:00 UTC", 3.0, tiny=True)
    lines = table(tmp_path).splitlines()
    assert lines[0] == "| on a GPU | H100, abc, 2026-11-02 |"
    assert "| SFT step, Qwen3-0.6B shape | 20,000 tokens/s, 0.4 MFU |" in lines
    assert "| the same, transformers padded | failed: ValueError: a \\| b |" in lines
    assert "| decoding, Qwen3-4B shape | not measured: no time was left |" in lines
    assert "| bf16 matrix product | not measured |" in lines


def test_weights_travel_in_parts_and_a_lost_one_is_named(tmp_path):
    folder, scratch, out = (tmp_path / name for name in ("model", "scratch", "out"))
    for path in (folder, scratch, out):
        path.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(2_500_000))
    *parts, index = weights.split(folder, 1, scratch, out)
    assert len(parts) == 3 and all(path.stat().st_size <= 1 << 20 for path in parts)
    joined = weights.join(out, tmp_path / "joined")
    assert (joined / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    parts[1].write_bytes(b"half")
    with pytest.raises(ValueError, match=r"weights\.01 did not arrive whole"):
        weights.join(out, tmp_path / "again")
    parts[2].unlink()
    parts[1].unlink()
    with pytest.raises(ValueError, match=r"weights\.01 is not in"):
        weights.join(out, tmp_path / "once more")
    index.unlink()
    assert weights.join(out, tmp_path / "none") is None


def test_the_pipeline_on_real_tasks_tells_each_stage_that_is_done(smoke, smoke_outputs: Path, tmp_path: Path) -> None:
    """A tiny model in the place of SmolLM2; and a pipeline that cannot begin fails with run.py's own words."""
    scratch, parts, stream = tmp_path / "scratch", tmp_path / "parts", io.StringIO()
    scratch.mkdir()
    parts.mkdir()
    model = shutil.copytree(find(smoke_outputs, "sft")[0] / "checkpoints/last", tmp_path / "model")
    shape = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 8192}))  # as SmolLM2's
    weights.split(model, 40, scratch, parts)
    settings = Settings("cpu", True, tmp_path, parts)
    smollm.run(settings, Report("smollm", stream))
    records = {record["name"]: record["figures"] for record in map(json.loads, stream.getvalue().splitlines())}
    assert list(records) == ["SFT", "after SFT", "GRPO", "after GRPO", "pipeline"]
    assert records["SFT"]["tokens/s"] > 0 and records["after GRPO"]["tasks"] == 1
    assert records["pipeline"]["cut short"] is False

    report = Report("smollm", io.StringIO())
    smollm.run(dataclasses.replace(settings, device="cuda"), report)
    assert report.failures == ["pipeline: hardware.device=cuda: there is no GPU here; use hardware=cpu"]


def test_what_the_target_lacks_is_named_with_the_mend(tmp_path, monkeypatch):
    left = {
        "absent-one": {"imported": True, "wanted": []},
        "absent-two": {"imported": False, "wanted": []},
        "numpy": {"imported": True, "wanted": [[">=999", "somebody"], [">=1", "tau2_exp"]]},
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"python": "3.4", "commit": "abc", "left": left}))
    monkeypatch.setattr(target, "PACKED", tmp_path)
    python, one, two, numpy = target.missing()
    assert python.startswith("missing: Python 3.4") and "--python 3." in python
    assert one.startswith("missing: absent-one (the check imports it)") and "--also absent-one" in one
    assert "it can do without" in two
    assert numpy.startswith("other version: numpy ") and "somebody asks for >=999" in numpy and "--also" in numpy
    assert target.commit() == "abc"


def test_the_readme_and_the_page_say_what_the_committed_files_say() -> None:
    results = ROOT / "benchmarks" / "results"
    assert f"| {status(results)} |" in (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "gpu-check.md").read_text()
    assert page.partition("<!-- gpu_check -->\n")[2].startswith(table(results))


def test_a_cards_file_becomes_a_line_and_a_column(tmp_path: Path) -> None:
    figures = {"tokens/s": 25_000.0, "MFU": 0.24, "peak GiB": 31.0}
    steps = {"status": "done", "reason": "", "records": [{"name": "SFT, 0.6B", "figures": figures}]}
    data = {"tiny": False, "device": "cuda", "card": "A Card", "commit": "abc1234", "date": "2026-12-01T00:00:00"}
    (tmp_path / "gpu_check-card-2026-12-01.json").write_text(json.dumps({**data, "parts": {"steps": steps}}))
    assert status(tmp_path).startswith(
        "A Card, 2026-12-01, commit abc1234: SFT step, Qwen3-0.6B shape: 25,000 tokens/s"
    )
    assert "| on a GPU | A Card, abc1234, 2026-12-01 |" in table(tmp_path)
