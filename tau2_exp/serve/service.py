"""What is to be served, and the command that serves it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.runs.run import Run
from tau2_exp.system.allocation import own_gpus
from tau2_exp.system.quoting import setting

LOOPBACK = "127.0.0.1"
OURS = ("--api-key", "--config")  # of SGLang's flags: how it is told its token


class Role(str, Enum):
    """What the server's model is in an episode: the policy (SGLang's /generate) or the user (OpenAI's /v1)."""

    policy = "policy"
    user = "user"


class Engine(str, Enum):
    """What serves the model."""

    sglang = "sglang"
    torch = "torch"


@dataclass(frozen=True)
class Service:
    """One model to be served. A field that is None is left to the engine; `flags` are SGLang's own."""

    model: str
    role: Role = Role.policy
    engine: Engine = Engine.sglang
    gpus: tuple[str, ...] = ()
    host: str = LOOPBACK
    port: int = 0
    context: int | None = None
    memory_fraction: float | None = None
    at_once: int | None = None
    threads: int = 1
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the server is called in messages."""
        return f"{self.role.value} server"


def check(service: Service) -> None:
    """Raises ConfigError where the engine cannot do what is wanted, and says what to change."""
    if service.engine is Engine.sglang:
        if find_spec("sglang") is None:
            raise ConfigError(
                "--engine sglang: SGLang is not installed here (slime's container has it); "
                "--engine torch serves a small model without it"
            )
        for flag in service.flags:
            if flag.partition("=")[0] in OURS:
                raise ConfigError(f"--flags {flag.partition('=')[0]}: gives the server its token; use --token-env NAME")
        return
    if service.role is Role.user:
        raise ConfigError("--engine torch: has no /v1 API, which a user simulator needs; use --engine sglang")
    if len(service.gpus) > 1:
        raise ConfigError(f"--gpus {','.join(service.gpus)}: the torch engine computes on one GPU; name one of them")
    if service.memory_fraction is not None or service.flags:
        what = " ".join(service.flags) or "--memory-fraction"
        raise ConfigError(f"{what}: is for --engine sglang alone")


def command(service: Service, key: Path, port: int, listening: int | None = None) -> list[str]:
    """The server's argv. SGLang binds `port`; the torch engine's server takes `listening`, the descriptor of a socket.

    `key` is the file that holds the token.
    """
    environment = [f"CUDA_VISIBLE_DEVICES={','.join(own_gpus(service.gpus))}"] if service.gpus else []
    if listening is None:
        server = _sglang(service, key, port)
    else:
        server = _torch(service, key, listening)
        environment += [f"OMP_NUM_THREADS={service.threads}", "OMP_WAIT_POLICY=passive", "TOKENIZERS_PARALLELISM=false"]
    return ["env", *environment, sys.executable, "-u", *server]


def _sglang(service: Service, key: Path, port: int) -> list[str]:
    argv = ["-m", "sglang.launch_server", "--model-path", service.model, "--host", service.host, "--port", str(port)]
    argv += ["--config", str(key), "--tp-size", str(max(1, len(service.gpus)))]
    for flag, value in (
        ("--context-length", service.context),
        ("--mem-fraction-static", service.memory_fraction),
        ("--max-running-requests", service.at_once),
    ):
        if value is not None:
            argv += [flag, str(value)]
    if service.role is Role.user and "--tool-call-parser" not in service.flags:
        argv += ["--tool-call-parser", "auto"]  # telecom's customer has tools
    return [*argv, *service.flags]


def _torch(service: Service, key: Path, listening: int) -> list[str]:
    argv = ["-m", "tau2_exp.engines.torch.server", service.model, "--socket", str(listening)]
    argv += ["--host", service.host, "--key-file", str(key)]
    if service.gpus:
        argv += ["--device", "cuda", "--dtype", "bfloat16"]
    for flag, value in (
        ("--threads", service.threads),
        ("--context", service.context),
        ("--at-once", service.at_once),
    ):
        if value is not None:
            argv += [flag, str(value)]
    return argv


def find_model(given: str) -> str:
    """The folder or hub name that MODEL means: a run's folder stands for the model that it made.

    Raises ConfigError where there is no such folder, or the run made no model.
    """
    folder = Path(given)
    if (folder / "manifest.json").is_file():
        run = Run.open(folder)
        try:
            return str((folder / run.results["model"]).absolute())
        except FileNotFoundError:
            raise ConfigError(f"{given}: the run is not finished; {setting('resume', given)} continues it") from None
        except KeyError:
            raise ConfigError(f"{given}: a run of stage {run.stage} has no model; give a training run") from None
    if folder.is_dir():
        return str(folder.absolute())
    if given.startswith((".", "/", "~")) or given.count("/") != 1:
        raise ConfigError(f"{given}: no such folder, and a hub name reads owner/model")
    return given
