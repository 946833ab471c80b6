"""Part 6: a real small model on real tasks, SmolLM2 on the 74 train tasks of telecom, as far as the engine takes it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.gpu_check import weights
from benchmarks.gpu_check.report import DETAILS, Figures, Report
from benchmarks.gpu_check.settings import ROOT, Settings
from tau2_exp.runs.run import Run

SETTINGS = [
    "stage=eval",
    "model=qwen3_0_6b",  # for its turn's format; what it is itself says the folder
    "model.context=8192",
    "model.max_new_tokens=256",
    "domain.document=none",  # the policy document alone would fill the context
    "domain.eval_splits=[train]",
    "stage.samples_per_prompt=1",
    "stage.temperature=0.7",
    "stage.greedy=false",
    "rollout.concurrency=74",
]
END_SECONDS = 15.0  # before the part's time is up, the run is told to save and end
REFUSED = 2  # run.py's status where the settings cannot be done
FEW = ["domain.limit=2", "domain.max_steps=4", "model.max_new_tokens=16"]


def run(settings: Settings, report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            model = weights.join(settings.weights, folder / "model") if settings.weights else None
        except ValueError as error:
            report.fail("weights", str(error))
            return
        if model is None:
            report.skip("no weights are here; pack with --weights")
            return
        try:
            figures = _evaluate(model, folder, settings)
        except _Refused as refusal:
            report.skip(f"the engine does not take this model: {refusal}")
        else:
            report.record("SmolLM2-135M-Instruct, telecom train", figures)


class _Refused(Exception):
    """run.py does not begin: the engine cannot do what is asked of it."""


def _evaluate(model: Path, folder: Path, settings: Settings) -> Figures:
    """The tasks that were played within the part's time, and how many of them were solved."""
    hardware = "cpu" if settings.device == "cpu" else "gpu_1"
    command = [sys.executable, "run.py", *SETTINGS, *(FEW if settings.tiny else []), f"model.path={model}"]
    command += [f"hardware={hardware}", f"outputs={folder}/outputs", "name=smollm"]
    log = folder / "log"
    begun = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait(max(1.0, settings.seconds - END_SECONDS) if settings.seconds else None)
        except subprocess.TimeoutExpired:
            process.terminate()  # it saves, and ends
            process.wait()
            status = None
    seconds = time.monotonic() - begun
    if status:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        why = next((line for line in said if line.startswith("error: ")), said[-1]).removeprefix("error: ")
        raise (_Refused if status == REFUSED else RuntimeError)(why)
    played = list(Run.open(folder / "outputs" / "smollm").read_trajectories("train"))
    if not played:
        raise RuntimeError(f"no task was played to its end in {seconds:.0f} s")
    solved = sum(trajectory.outcome == 1.0 for trajectory in played)
    stops = Counter(trajectory.stop.value for trajectory in played)
    figures = {"tasks": len(played), "solved": solved, "seconds": seconds, "cut short": status is None}
    return figures | {DETAILS: {"stops": stops}}
