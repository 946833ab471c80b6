"""`python -m tau2_exp serve` keeps an SGLang server: starts it, waits for it, starts it again, ends all of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tau2_exp.config import ConfigError
from tau2_exp.jsonl import read_jsonl
from tau2_exp.serve.service import Engine, Role, Service, check, command, find_model
from tau2_exp.serve.token import find_token, how_to_ask
from tests.serving import ROOT, STANDIN, Serving, alive, wait_until

Start = Callable[..., Serving]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def behave(model: Path, **behaviour: Any) -> None:
    (model / "behaviour.json").write_text(json.dumps(behaviour))


def lives(model: Path) -> list[dict[str, Any]]:
    """How the server was called, each time it was."""
    return list(read_jsonl(model / "started.jsonl"))


def pids(model: Path) -> list[int]:
    return [pid for life in lives(model) for pid in life["pids"]]


def test_a_server_is_started_on_its_gpus_announced_and_ended_with_all_it_started(start: Start, model: Path) -> None:
    behave(model, starts=0.5)
    settings = ("--context", "4096", "--memory-fraction", "0.7", "--flags=--log-level warning")
    serving = start(model, "--engine", "sglang", "--gpus", "2,3", *settings)
    told = json.loads(serving.await_ready().ready.read_text())
    assert told["pid"] == serving.process.pid
    (life,) = lives(model)
    port = told["url"].rpartition(":")[2]
    key = life["argv"][life["argv"].index("--config") + 1]
    expected = f"--model-path {model} --host 127.0.0.1 --port {port} --config {key} --tp-size 2 --context-length 4096"
    assert " ".join(life["argv"]) == f"{expected} --mem-fraction-static 0.7 --log-level warning"
    assert not Path(key).exists(), "the token is in that file only while the server starts"
    assert life["gpus"] == "2,3"
    assert "loading weights" in (serving.ready.parent / "policy.log").read_text()
    serving.process.terminate()
    assert serving.await_end() == 0
    assert not serving.ready.exists()
    assert not any(map(alive, pids(model)))


def test_the_token_is_in_the_owners_files_alone_and_the_same_for_each_life(start: Start, model: Path) -> None:
    serving = start(model, "--engine", "sglang").await_ready()
    token = json.loads(serving.ready.read_text())["token"]
    log = serving.ready.parent / "policy.log"
    assert token in log.read_text(), "SGLang's doing"
    assert [path.stat().st_mode & 0o777 for path in (serving.ready, log)] == [0o600, 0o600]
    os.kill(lives(model)[0]["pids"][0], signal.SIGKILL)
    serving.await_printed("ready at", times=2)
    assert [life["settings"] for life in lives(model)] == [{"api-key": token}] * 2
    told = "".join(serving.printed)
    assert token not in told + " ".join(lives(model)[0]["argv"])
    export, run = (line.strip() for line in told.splitlines() if line.startswith("  "))
    assert run.endswith(f"policy=sglang policy.url={serving.url} policy.api_key_env=TAU2_SERVER_TOKEN …")
    shell = ["bash", "-c", f"{export}; echo $TAU2_SERVER_TOKEN"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    read = subprocess.run(shell, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert read.stdout.strip() == token, export


def test_a_token_may_be_the_users_own(start: Start, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "-short")
    assert start(model, "--engine", "sglang", "--token-env", "MINE").await_end() == 2
    assert start(model, "--engine", "sglang", "--token-env", "NOT_SET").await_end() == 2
    monkeypatch.setenv("MINE", "of-my-own-0123456789")
    serving = start(model, "--engine", "sglang", "--token-env", "MINE").await_ready()
    assert lives(model)[0]["settings"] == {"api-key": "of-my-own-0123456789"}
    serving.await_printed("policy.api_key_env=MINE")
    assert "of-my-own" not in "".join(serving.printed)


def test_without_a_ready_file_the_token_is_printed() -> None:
    token = find_token(None)
    lines = how_to_ask(Role.user, "http://127.0.0.1:9", token, None)
    assert f"  export TAU2_SERVER_TOKEN={token.value}" in lines
    assert "user.api_base=http://127.0.0.1:9/v1 user.api_key_env=TAU2_SERVER_TOKEN" in lines[-1]
    assert find_token(None) != token and token.value not in repr(token)


def test_a_server_that_dies_while_starting_is_one_error_with_the_end_of_its_log(
    start: Start, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "of-my-own-0123456789")
    behave(model, exits=3)
    serving = start(model, "--engine", "sglang", "--token-env", "MINE")
    assert serving.await_end() == 1
    serving.await_printed("CUDA out of memory")
    printed = "".join(serving.printed)
    assert "error: policy server" in printed and "before it answered" in printed and "Traceback" not in printed
    assert "server_args" in printed and "of-my-own" not in printed, "SGLang's log tells its token, and we do not"
    assert not serving.ready.exists()
    assert not any(map(alive, pids(model)))


def test_a_server_that_never_answers_is_ended_when_the_bound_is_reached(start: Start, model: Path) -> None:
    behave(model, starts="never")
    serving = start(model, "--engine", "sglang", "--seconds", "1")
    assert serving.await_end() == 1
    serving.await_printed("no answer within 1 s (--seconds)")
    assert not any(map(alive, pids(model)))


def test_a_server_that_dies_is_started_again_at_the_same_address_but_not_for_ever(start: Start, model: Path) -> None:
    serving = start(model, "--engine", "sglang").await_ready()
    url = serving.url
    for death in range(1, 5):
        os.kill(lives(model)[-1]["pids"][0], signal.SIGKILL)
        if death < 4:
            serving.await_printed(f"ready at {url}", times=death + 1)
    assert serving.await_end() == 1
    serving.await_printed("not started again")
    assert len(lives(model)) == 4
    assert not any(map(alive, pids(model))), "schedulers of dead servers too"


def test_a_server_that_stalls_is_started_again(start: Start, model: Path) -> None:
    serving = start(model, "--engine", "sglang", "--stall-seconds", "1").await_ready()
    os.kill(lives(model)[0]["pids"][0], signal.SIGSTOP)
    serving.await_printed("no healthy answer")
    serving.await_printed(f"ready at {serving.url}", times=2)


def test_nothing_outlives_a_killed_serve_and_what_it_left_is_no_hindrance(start: Start, model: Path) -> None:
    serving = start(model, "--engine", "sglang").await_ready()
    second = start(model, "--engine", "sglang")
    assert second.await_end() == 2
    second.await_printed(f"process {serving.process.pid} serves {serving.url} there; end it")
    serving.process.kill()
    wait_until(lambda: not alive(lives(model)[0]["pids"][0]))
    assert serving.ready.exists(), "a kill leaves the file behind"
    third = start(model, "--engine", "sglang")
    third.await_printed("ready at")
    assert json.loads(third.ready.read_text())["pid"] == third.process.pid


def test_a_server_ends_with_whoever_started_it(tmp_path: Path, model: Path) -> None:
    starter = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'tau2_exp', 'serve', *sys.argv[1:]])\n"
        "time.sleep(600)"
    )
    ready = tmp_path / "ready.json"
    arguments = [sys.executable, "-c", starter, str(model), "--engine", "sglang", "--ready", str(ready)]
    with subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": f"{ROOT}:{STANDIN}"}, cwd=tmp_path) as process:
        wait_until(ready.exists)
        process.kill()
    wait_until(lambda: not ready.exists() and not any(map(alive, pids(model))))


def test_a_busy_port_is_refused_with_a_mend(start: Start, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serving = start(model, "--engine", "sglang", "--port", str(taken.getsockname()[1]))
        assert serving.await_end() == 2
    serving.await_printed("Address already in use; use another port, or 0 for any that is free")
    assert not (model / "started.jsonl").exists()


def test_a_user_simulator_gets_its_tool_calls_parsed() -> None:
    def argv(*flags: str) -> str:
        return " ".join(command(Service("owner/model", Role.user, flags=flags), Path("key.yaml"), port=1))

    assert argv().endswith("--tp-size 1 --tool-call-parser auto")
    assert argv("--tool-call-parser", "hermes").endswith("--tp-size 1 --tool-call-parser hermes")


@pytest.mark.parametrize(
    ("service", "mend"),
    [
        (Service("m"), "--engine torch serves a small model"),
        (Service("m", Role.user, Engine.torch), "use --engine sglang"),
        (Service("m", flags=("--api-key=k",)), "use --token-env NAME"),
        (Service("m", flags=("--config", "my.yaml")), "use --token-env NAME"),
        (Service("m", engine=Engine.torch, gpus=("0", "1")), "name one of them"),
        (Service("m", engine=Engine.torch, memory_fraction=0.5), "is for --engine sglang alone"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_a_mend(
    service: Service, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tau2_exp.serve.service.find_spec", lambda name: object() if service.flags else None)
    with pytest.raises(ConfigError, match=mend):
        check(service)


def test_a_model_is_a_hub_name_or_a_folder_that_is_there(model: Path) -> None:
    assert find_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert find_model(str(model)) == str(model)
    for nowhere in ("./nowhere", "a/b/c", str(model / "gone")):
        with pytest.raises(ConfigError, match="no such folder"):
            find_model(nowhere)
