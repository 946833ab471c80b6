"""Part 6: a real small model on real tasks, SmolLM2 on the 74 train tasks of telecom, as far as the engine takes it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu_check import weights
from benchmarks.gpu_check.report import Figures, Report
from benchmarks.gpu_check.settings import ROOT, Settings

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
    hardware = "cpu" if settings.device == "cpu" else "gpu_1"
    command = [sys.executable, "run.py", *SETTINGS, *(FEW if settings.tiny else []), f"model.path={model}"]
    command += [f"hardware={hardware}", f"outputs={folder}/outputs", "name=smollm"]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    said = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        why = next((line for line in said if line.startswith("error: ")), said[-1]).removeprefix("error: ")
        raise (_Refused if done.returncode == REFUSED else RuntimeError)(why)
    results = json.loads((folder / "outputs" / "smollm" / "results.json").read_text())
    [split] = results["splits"].values()
    return {"tasks": split["tasks"], "pass@1": split["measures"]["pass@1"]["value"], "seconds": seconds}
