"""Part 3: the engine's tests on this device, its logits beside transformers', and a whole pipeline of real tasks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from engine import peer, random_model
from torch import Tensor

from benchmarks.gpu_check import sizes
from benchmarks.gpu_check.report import DETAILS, Figures, Report
from benchmarks.gpu_check.settings import ROOT, Settings
from benchmarks.gpu_check.sizes import Sizes

DTYPES = ("float32", "bfloat16")
FEW = ["domain.limit=1", "stage.sft.epochs=2", "stage.grpo.steps=1", "stage.eval.samples_per_prompt=1"]
TESTS = sorted((ROOT / "tests" / "engines").glob("test_*.py"))
QUICK = [ROOT / "tests" / "engines" / "test_model.py"]  # proves the tests' options, no more
LOGITS_TOKENS = 2048
POLL_SECONDS = 0.1
END_SECONDS = 4.0  # before its time is up, the part tells what is not done


def run(settings: Settings, report: Report) -> None:
    """Tests and pipeline are processes of their own, side by side: each leaves the device mostly idle."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _started(folder, settings) as jobs:
            size = sizes.TINY if settings.tiny else sizes.FULL
            report.attempt("logits beside transformers', 0.6B", lambda: _logits(size, settings.device))
            while jobs and (not settings.seconds or time.monotonic() < begun + settings.seconds - END_SECONDS):
                for job in [job for job in jobs if job.process.poll() is not None]:
                    report.attempt(job.name, job.figures)
                    jobs.remove(job)
                time.sleep(POLL_SECONDS)
            for job in jobs:
                report.fail(job.name, f"not done after {time.monotonic() - begun:.0f} s; its last words: {job.end()}")


@dataclass
class _Job:
    """A command at work. Its figures are read when it has ended; where it failed, they raise."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def figures(self) -> Figures:
        return self._read(self.process.returncode)

    def _read(self, status: int) -> Figures:
        raise NotImplementedError

    def end(self) -> str:
        """The last line that says what went wrong, or else the last one."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        wrong = (line for line in reversed(lines) if line.lower().startswith(("error", "failed", "e ")))
        return next(wrong, lines[-1] if lines else "none")


class _Tests(_Job):
    def _read(self, status: int) -> Figures:
        found = self.log.with_suffix(".xml")
        if not found.is_file():
            raise RuntimeError(f"pytest ended with status {status}: {self.end()}")
        root = ElementTree.parse(found).getroot()
        cases = list(root.iter("testcase"))
        failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        skipped = sum(case.find("skipped") is not None for case in cases)
        names = [f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}" for case in failed]
        if failed or status:
            print(self.log.read_text(errors="replace")[-6000:], flush=True)
            raise AssertionError(f"{len(failed)} of {len(cases)} tests failed: {', '.join(names)}")
        return {"tests": len(cases), "passed": len(cases) - skipped, "skipped": skipped}


class _Pipeline(_Job):
    def _read(self, status: int) -> Figures:
        results = self.log.parent / "outputs" / "smoke" / "results.json"
        if status or not results.is_file():
            raise RuntimeError(f"run.py ended with status {status}: {self.end()}")
        evaluations = json.loads(results.read_text())["evaluations"]
        last = list(evaluations.values())[-1]
        solved = {split: found["measures"]["pass@1"]["value"] for split, found in last["splits"].items()}
        table = (results.parent / "table.txt").read_text()
        return {
            "evaluations": len(evaluations),
            **{f"{s} pass@1": v for s, v in solved.items()},
            DETAILS: {"table": table},
        }


@contextmanager
def _started(folder: Path, settings: Settings) -> Iterator[list[_Job]]:
    """The jobs, all begun; none outlives the part."""
    jobs: list[_Job] = []
    try:
        for dtype in DTYPES:
            log = folder / f"{dtype}.txt"
            command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={log.with_suffix('.xml')}"]
            command += ["-p", "no:cacheprovider", "--device", settings.device, "--dtype", dtype]
            command += map(str, QUICK if settings.tiny else TESTS)
            jobs.append(_Tests(f"tests/engines in {dtype}", _begin(command, log), log))
        log = folder / "pipeline.txt"
        hardware = "cpu" if settings.device == "cpu" else "gpu_1"
        command = [sys.executable, "run.py", "experiment=smoke", f"hardware={hardware}", f"outputs={folder}/outputs"]
        command += ["name=smoke", "stage.rft.keep_partial=0", *(FEW if settings.tiny else [])]
        jobs.append(_Pipeline(f"smoke pipeline, hardware={hardware}", _begin(command, log), log))
        yield list(jobs)
    finally:
        for job in jobs:
            job.process.kill()
            job.process.wait()


def _begin(command: list[str], log: Path) -> subprocess.Popen[str]:
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, text=True
        )


@torch.inference_mode()
def _logits(size: Sizes, device: str) -> Figures:
    """Relative errors ‖a − b‖ / ‖b‖ of logits, b being transformers' in float32 from the same bf16 weights."""
    shape = size.shapes["0.6B"]
    count = min(LOGITS_TOKENS, size.context)
    model = random_model(shape, device).bfloat16()
    ids = torch.randint(0, shape.vocab_size, (count,), device=device)
    theirs = peer(model)
    ours16, theirs16 = model.logits(model.packed(ids, [count])), theirs(ids[None]).logits[0]
    model, theirs = model.float(), theirs.float()
    wanted = theirs(ids[None]).logits[0]
    found = {
        "float32": _unlike(model.logits(model.packed(ids, [count])), wanted),
        "bf16": _unlike(ours16, wanted),
        "transformers' bf16": _unlike(theirs16, wanted),
    }
    if not (found["float32"] < 1e-3 and found["bf16"] < 2 * found["transformers' bf16"]):
        raise AssertionError(f"the logits are not transformers': relative errors {found}")
    return found


def _unlike(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted).norm() / wanted.norm())
