"""`ray submit`: one job through Ray's job API, followed to its end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.cluster import ray_token
from tau2_exp.llm.secrets import masked
from tau2_exp.runs.run import Run
from tau2_exp.system.processes import terminable, undisturbed, with_this_python

POLL_SECONDS = 1.0
STOP_SECONDS = 15.0
RETRIES = 5  # of following the log, where the connection breaks


def register(parts: argparse._SubParsersAction) -> None:
    """Add `submit` to the parts of the command `ray`."""
    submit = parts.add_parser("submit", help="run a command as a job of the run's Ray, and print its log until it ends")
    submit.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder whose `ray up` is ready")
    submit.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the job; never a secret")
    submit.add_argument("argv", nargs="+", metavar="-- COMMAND", help="run in the current folder")
    submit.set_defaults(run=_submit)


def _submit(given: argparse.Namespace) -> int:
    env = dict(setting.partition("=")[::2] for setting in given.env)
    if "" in env:
        raise ConfigError("--env: must be NAME=VALUE")
    with terminable():
        return submit(Run.open(given.folder), given.argv, env)


def submit(run: Run, argv: list[str], env: dict[str, str]) -> int:
    """Run a command on the head's node, in this process's folder, and print its output. Returns its exit status.

    Interrupted or told to end, it stops the job, also one that Ray has not confirmed yet: the job is named before it is
    submitted. Raises ConfigError where the run's Ray is not up.
    """
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    server = run.server("ray")
    url = server.url
    # Ray tells its jobs the address of the cluster that was started last on the machine, whosever it is.
    command = ["env", f"RAY_ADDRESS={server.cluster}", *with_this_python(argv)]
    entry = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}"
    try:
        client = JobSubmissionClient(url, headers=ray_token.headers(run.folder))
    except (ConnectionError, RuntimeError) as error:
        raise _refused(url, error) from None
    job = f"{run.stage}-{secrets.token_hex(8)}"
    try:
        _begin(client, url, job, entry, env)
        asyncio.run(_follow(client, job))
    except KeyboardInterrupt:
        with undisturbed():
            asyncio.run(_stop(client, job))
        return 130
    info = client.get_job_info(job)
    if info.driver_exit_code is not None:
        return info.driver_exit_code
    print(f"ray: job {info.status.value.lower()}: {_first_line(info.message)}", file=sys.stderr)
    return 0 if info.status.value == "SUCCEEDED" else 1


def _begin(client: Any, url: str, job: str, entry: str, env: dict[str, str]) -> None:
    try:
        client.submit_job(entrypoint=entry, submission_id=job, runtime_env={"env_vars": env})
    except (ConnectionError, RuntimeError) as error:
        raise _refused(url, error) from None


def _refused(url: str, error: Exception) -> ConfigError:
    return ConfigError(f"ray: {url} took no job: {masked(' '.join(str(error).split()))[:300]}")


async def _follow(client: Any, job: str) -> None:
    """Print the job's log until it has ended. A broken connection is made anew, and no line is printed twice."""
    import aiohttp

    said, failures = 0, 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(job):
                new = text[max(0, said - seen) :]
                seen += len(text)
                said = max(said, seen)
                print(new, end="", flush=True)
            failures = 0
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            failures += 1
            if failures > RETRIES:
                raise
            print(f"ray: the log broke off ({type(error).__name__}); asking again", file=sys.stderr, flush=True)
        await asyncio.sleep(POLL_SECONDS)
        if await _over(client, job):
            return


async def _stop(client: Any, job: str) -> None:
    try:
        await asyncio.to_thread(client.stop_job, job)
    except RuntimeError:  # Ray never took it
        return
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while not await _over(client, job):
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        print(f"ray: job {job} does not stop; it ends with the cluster", file=sys.stderr)


async def _over(client: Any, job: str) -> bool:
    return (await asyncio.to_thread(client.get_job_status, job)).is_terminal()


def _first_line(message: str | None) -> str:
    return (message or "no reason given").strip().splitlines()[0]
