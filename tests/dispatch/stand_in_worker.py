"""A worker whose stages only say that they ran: `seed` 13 fails, `seed` 99 hangs."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path

from tau2_exp.dispatch.worker import work
from tau2_exp.rundir import Run


def run_stage(run: Run) -> None:
    print(f"{run.stage} begins", flush=True)
    if run.config.seed == 99:
        time.sleep(60)
    if run.config.seed == 13 and run.stage == "sft":
        raise ValueError("unlucky\nseed")
    run.log({"ran": 1}, 0)
    run.finish({"parent": run.parent.stage if run.parent else None}, table=f"table of {run.stage}")


if __name__ == "__main__":
    stages = types.ModuleType("tau2_exp.stages")
    stages.run_stage = run_stage  # type: ignore[attr-defined]
    sys.modules["tau2_exp.stages"] = stages
    sys.exit(work([Path(folder) for folder in sys.argv[1:]], attended=True))
