"""A worker whose stages only say that they ran.

`seed` 13 fails in SFT, 28 fills the disk, 99 hangs, 97 and 98 are in the middle of a step.
"""

from __future__ import annotations

import errno
import sys
import time
import types
from pathlib import Path

from tau2_exp.dispatch.worker import work
from tau2_exp.runs.run import Run

STEP_SECONDS = {97: 3600.0, 98: 1.0}  # from being told to save and end


def run_stage(run: Run) -> None:
    told: list[bool] = []
    if run.config.seed in STEP_SECONDS:
        run.on_stop(lambda: bool(told.append(True)))
    print(f"{run.stage} begins", flush=True)
    if run.config.seed in STEP_SECONDS:
        take_step(run, told)
    if run.config.seed == 99:
        time.sleep(3600)
    if run.config.seed == 28:
        fill_disk(run)
    if run.config.seed == 13 and run.stage == "sft":
        raise ValueError("unlucky\nseed")
    run.log({"ran": 1}, 0)
    run.finish({"parent": run.parent.stage if run.parent else None}, table=f"table of {run.stage}")


def fill_disk(run: Run) -> None:
    """Nothing more can be written from here on; the folder has the file that would tell of it, which is none."""
    (run.folder / "failure.json").mkdir()
    raise OSError(errno.ENOSPC, "No space left on device", str(run.folder / "metrics.jsonl"))


def take_step(run: Run, told: list[bool]) -> None:
    while not told:
        time.sleep(0.01)
    print("told", flush=True)
    time.sleep(STEP_SECONDS[run.config.seed])
    (run.folder / "saved").touch()
    raise KeyboardInterrupt


if __name__ == "__main__":
    stages = types.ModuleType("tau2_exp.stages")
    stages.run_stage = run_stage  # type: ignore[attr-defined]
    sys.modules["tau2_exp.stages"] = stages
    sys.exit(work([Path(folder) for folder in sys.argv[1:]], attended=True))
