"""Stages that speak through a server: what they say, and what its death or a stall costs them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import completion, serve

from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.eval import evaluate
from tests.flows import lines
from tests.serving import Serving, start_serving, wait_until

EVAL = ("stage=eval", "domain.eval_splits=[train]")
TOKEN = "A_SERVERS_TOKEN"


@pytest.fixture(scope="module")
def serving(pupil: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The pupil's run folder, served by the torch engine."""
    server = start_serving(tmp_path_factory.mktemp("serving"), pupil.folder, "--engine", "torch").await_ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN, server.token)
        yield server
    server.end()


def asks(pupil: Run, serving: Serving) -> tuple[str, ...]:
    address = ("policy=sglang", f"policy.url={serving.url}", f"policy.api_key_env={TOKEN}")
    return (*address, f"parent={pupil.folder}")


def child(serving: Serving) -> int:
    """The process that holds the model."""
    (pid,) = Path(f"/proc/{serving.process.pid}/task/{serving.process.pid}/children").read_text().split()
    return int(pid)


def said(run: Run, name: str) -> dict[tuple[str, int], list[tuple[int, ...]]]:
    """What the model sampled in each episode, turn by turn."""
    return {(t.key, t.sample): [turn.tokens.sampled for turn in t.turns if turn.tokens] for t in run.trajectories(name)}


def meanwhile(deed: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=deed, daemon=True)
    thread.start()
    return thread


def test_a_served_model_evaluates_as_the_same_model_in_process(make_run, pupil: Run, serving: Serving) -> None:
    short = (*EVAL, "stage.samples_per_prompt=1")
    own, through = (make_run(*short, *policy, parent=pupil) for policy in ((), asks(pupil, serving)))
    run_stage(own)
    run_stage(through)
    assert said(through, "train-greedy") == said(own, "train-greedy")
    a, b = (run.results["splits"]["train"] for run in (own, through))
    assert a["greedy_outcomes"] == b["greedy_outcomes"]
    assert b["faults"] == {}


def test_with_slime_the_model_and_the_user_speak_from_the_runs_own_servers(
    make_run, pupil: Run, serving: Serving
) -> None:
    settings = ("engine=slime", "hardware=gpu_4", "user=local", "hardware.user_gpus=2")
    run = make_run(*EVAL, *settings, "stage.samples_per_prompt=1", "domain.limit=1", parent=pupil)
    with serve(completion("I cannot. ###STOP###")) as user:
        for role, url, token in (("policy", serving.url, serving.token), ("user", user.url, "of-the-user")):
            (run.folder / "servers").mkdir(exist_ok=True)
            (run.folder / "servers" / f"{role}.json").write_text(json.dumps({"url": url, "pid": 1, "token": token}))
        assert not StageContext(run).lockstep
        asyncio.run(evaluate(run))
    assert run.results["splits"]["train"]["faults"] == {}
    assert user.asked and user.asked[0]["model"] == "Qwen/Qwen3-4B-Instruct-2507"
    assert {headers["authorization"] for headers in user.headers} == {"Bearer of-the-user"}
    assert not [path for path in run.folder.glob("*.json*") if "of-the-user" in path.read_text()]


def test_a_server_that_dies_costs_the_run_nothing_that_it_counts(make_run, pupil: Run, serving: Serving) -> None:
    run = make_run(*EVAL, *asks(pupil, serving), "stage.samples_per_prompt=8", parent=pupil)

    def kill() -> None:
        wait_until(lambda: lines(run.folder / "trajectories" / "train.jsonl") >= 2)
        os.kill(child(serving), signal.SIGKILL)

    killing = meanwhile(kill)
    run_stage(run)
    killing.join()
    assert "died; starting it again" in "".join(serving.printed)
    assert run.results["splits"]["train"]["faults"] == {}
    assert all(t.scored for t in run.trajectories("train"))


def test_a_server_that_stalls_costs_its_episodes_a_retry(make_run, pupil: Run, serving: Serving) -> None:
    settings = (*asks(pupil, serving), "policy.timeout=4", "rollout.fault_retries=50", "stage.greedy=false")
    run = make_run(*EVAL, *settings, "stage.samples_per_prompt=8", parent=pupil)

    def stall() -> None:
        wait_until(lambda: lines(run.folder / "trajectories" / "train.jsonl") >= 1)
        pid = child(serving)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(6)  # longer than an answer may take
        os.kill(pid, signal.SIGCONT)

    stalling = meanwhile(stall)
    run_stage(run)
    stalling.join()
    trajectories = list(run.trajectories("train"))
    assert all(t.scored for t in trajectories)
    assert max(t.attempts for t in trajectories) > 1
    assert run.results["splits"]["train"]["faults"] == {}
