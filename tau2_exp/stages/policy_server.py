"""The server that samples for a stage of engine=torch, where engine.sampler=sglang: up while the stage needs it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tau2_exp.engines.torch.sampler import check_sampler, is_served, serve_command
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import starting_point
from tau2_exp.system.processes import end, how_it_ended, last_lines, start, status_of, undisturbed

READY, WEIGHTS, LOG = "servers/policy.json", "servers/weights", "logs/policy.log"  # within a run's folder
POLL_SECONDS = 0.1
TOLD_LINES = 5  # of the log of a server that does not come up


@contextmanager
def policy_server(context: StageContext) -> Iterator[None]:
    """The server of a stage whose turns are served, up within the block; for any other stage nothing.

    It begins with the weights that the stage begins with. Raises ConfigError where SGLang is not installed,
    RuntimeError where the server does not come up.
    """
    run, config = context.run, context.config
    if not is_served(config):
        yield
        return
    check_sampler(config)
    ready, log = run.folder / READY, run.folder / LOG
    ready.parent.mkdir(exist_ok=True)
    ready.unlink(missing_ok=True)  # a killed attempt's
    argv = serve_command(config, str(starting_point(context)))
    process = start([*argv, "--ready", str(ready), "--log", str(log)], {}, log)
    try:
        _await(process, ready, log, config.stage.name)
        yield
    finally:
        with undisturbed():
            end([process])
        shutil.rmtree(run.folder / WEIGHTS, ignore_errors=True)


def _await(process: subprocess.Popen[bytes], ready: Path, log: Path, stage: str) -> None:
    """`serve` itself bounds how long this takes."""
    began = time.monotonic()
    print(f"{stage}: SGLang is starting, output in {log}", flush=True)
    while not ready.exists():
        if (status := status_of(process)) is not None:
            told = " | ".join(last_lines(log, TOLD_LINES)) or "nothing"
            raise RuntimeError(f"the policy server {how_it_ended(status)}; log: {log}, which ends: {told}")
        time.sleep(POLL_SECONDS)
    print(f"{stage}: SGLang is ready after {time.monotonic() - began:.0f} s", flush=True)
