"""A real small model on real tasks: SmolLM2's pipeline on the 74 train tasks of telecom, as far as the time goes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu_check import weights
from benchmarks.gpu_check.report import Figures, Report
from benchmarks.gpu_check.settings import ROOT, Settings
from tau2_exp.runs.run import Run, RunStatus

SETTINGS = [  # of experiment=smollm2, what all tasks and a card change
    "domain.limit=null",
    "domain.max_steps=100",
    "model.context=4096",
    "rollout.concurrency=74",
    "stage.sft.batch_size=4",
    "stage.grpo.prompts_per_step=8",
    "stage.grpo.samples_per_prompt=8",
    "stage.eval.samples_per_prompt=1",
]
FEW = [  # one task, and turns that are cut off, so that episodes end soon
    "domain.limit=1",
    "model.max_new_tokens=8",
    "stage.sft.epochs=1",
    "stage.grpo.steps=1",
    "stage.grpo.prompts_per_step=1",
    "stage.grpo.samples_per_prompt=2",
    "stage.grpo.refill=0",
]
END_SECONDS = 15.0  # before the part's time is up, the run is told to save and end
EVALUATION = "after "  # before the name of the stage that is evaluated


def run(settings: Settings, report: Report) -> None:
    """One record a stage that is done; where the time ended before the last, that is said too."""
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
        begun = time.monotonic()
        failure = _pipeline(model, folder, settings)
        for stage, figures in _stages(folder / "outputs"):
            report.record(stage, figures)
        report.record("pipeline", {"seconds": time.monotonic() - begun, "cut short": failure is None})
        if failure:
            report.fail("pipeline", failure)


def _pipeline(model: Path, folder: Path, settings: Settings) -> str | None:
    """Run it; what went wrong, empty where nothing did, None where the time was up."""
    hardware = "cpu" if settings.device == "cpu" else "gpu_1"
    command = [sys.executable, "run.py", "experiment=smollm2", *SETTINGS, *(FEW if settings.tiny else [])]
    command += [f"model.path={model}", f"hardware={hardware}", f"outputs={folder}/outputs", "name=smollm"]
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait(max(1.0, settings.seconds - END_SECONDS) if settings.seconds else None)
        except subprocess.TimeoutExpired:
            process.terminate()  # it saves, and ends
            process.wait()
            return None
    if not status:
        return ""
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in said if line.startswith("error: ")), said[-1]).removeprefix("error: ")


def _stages(outputs: Path) -> Iterator[tuple[str, Figures]]:
    for stage in ("sft", "grpo"):
        for name, read in ((stage, _training), (f"{stage}-eval", _evaluation)):
            folder = outputs / f"smollm-{name}"
            if folder.exists() and (run := Run.open(folder)).status is RunStatus.finished:
                yield f"{EVALUATION * name.endswith('eval')}{stage.upper()}", read(run)


def _training(run: Run) -> Figures:
    """Of the steps that had something to learn from."""
    steps = [step for step in run.metrics() if "tokens" in step]
    if not steps:
        return {"steps with signal": 0}
    seconds = sum(step["seconds"] for step in steps)
    return {
        "steps with signal": len(steps),
        "loss": steps[-1]["loss"],
        "tokens/s": sum(step["tokens"] for step in steps) / seconds,
        "training seconds": seconds,
    }


def _evaluation(run: Run) -> Figures:
    found = run.results["splits"]["train"]
    greedy, sampled = (found["measures"][name]["value"] for name in ("greedy pass@1", "pass@1"))
    return {"tasks": found["tasks"], "greedy pass@1": greedy, "pass@1": sampled}
