"""One server's life: started, waited for, announced, watched, started again where it dies, ended with its starter."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tau2_exp.config import ConfigError
from tau2_exp.llm.secrets import masked
from tau2_exp.serve.process import ServerProcess
from tau2_exp.serve.ready import announce, healthy, make_way, withdraw
from tau2_exp.serve.service import LOOPBACK, Engine, Service, command
from tau2_exp.serve.token import Token, how_to_ask, key_file

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EVERYWHERE = ("0.0.0.0", "::")


class Failed(Exception):
    """The server did not come up, or died too often; says why, with the last lines of its log."""


class _Ended(BaseException):
    """Somebody asked this process to end, or the one that started it is gone."""


@dataclass(frozen=True)
class Patience:
    """Bounds in seconds, and how often a server that was up is started again."""

    start: float = 1800.0
    stall: float = 180.0  # without a healthy answer: then it is ended, and started again
    progress: float = 5.0  # between two lines while it starts
    poll: float = 0.5
    look: float = 10.0  # between two looks at its health
    restarts: int = 3


def serve(service: Service, token: Token, ready: Path | None, log: Path, patience: Patience) -> None:
    """Serve the model until this process is asked to end, or the one that started it ends.

    Raises ConfigError for a port or a ready file that is in use; Failed where the server does not come up, or does not
    stay up.
    """
    starter = os.getppid()
    with _listen(service) as listening:
        if ready is not None:
            make_way(ready)
        try:
            with _endable():
                _Watch(service, token, listening, ready, log, patience, starter).run()
        except _Ended as reason:
            print(f"{service.name}: ended ({reason})", flush=True)
        finally:
            if ready is not None:
                withdraw(ready)


class _Watch:
    """Over one service. Our own server shares the socket, which stays open between two of its lives."""

    def __init__(
        self,
        service: Service,
        token: Token,
        listening: socket.socket,
        ready: Path | None,
        log: Path,
        patience: Patience,
        starter: int,
    ) -> None:
        self.service, self.token, self.ready, self.log = service, token, ready, log
        self.patience, self.starter = patience, starter
        self.port: int = listening.getsockname()[1]
        self.shared: tuple[int, ...] = (listening.fileno(),)
        if service.engine is Engine.sglang:
            listening.close()  # SGLang binds the port itself
            self.shared = ()
        everywhere = service.host in EVERYWHERE
        self.host = LOOPBACK if everywhere else service.host
        self.url = f"http://{socket.gethostname() if everywhere else service.host}:{self.port}"

    def run(self) -> NoReturn:
        deaths = 0
        while True:
            with self._started() as process:
                if not deaths:
                    print("\n".join(how_to_ask(self.service.role, self.url, self.token, self.ready)), flush=True)
                trouble = self._watch(process)
                deaths += 1
                if deaths > self.patience.restarts:
                    raise self._failed(f"{trouble} (time {deaths}; it is not started again)", process)
                self._say(f"{trouble}; starting it again at the same address")

    @contextmanager
    def _started(self) -> Iterator[ServerProcess]:
        """The server, which answers by now; ended with the block. Its token is in a file only while it starts."""
        with ExitStack() as ending:
            with key_file(self.token) as key:
                process = ServerProcess(command(self.service, key, self.port, *self.shared), self.log, self.shared)
                ending.callback(_end, process)
                self._await_answer(process)
            yield process

    def _await_answer(self, process: ServerProcess) -> None:
        began = said = time.monotonic()
        while not healthy(self.host, self.port, self.token.value):
            seconds = time.monotonic() - began
            if process.dead:
                raise self._failed(f"died after {seconds:.0f} s, before it answered", process)
            if seconds > self.patience.start:
                raise self._failed(f"no answer within {self.patience.start:.0f} s (--seconds)", process)
            if time.monotonic() - said > self.patience.progress:
                said = time.monotonic()
                self._say(f"starting, {seconds:.0f} of at most {self.patience.start:.0f} s; log: {self.log}")
            self._pause()
        if self.ready is not None:
            announce(self.ready, self.url, self.token.value)
        self._say(f"ready at {self.url} after {time.monotonic() - began:.0f} s; log: {self.log}")

    def _watch(self, process: ServerProcess) -> str:
        """Returns what is wrong with it, once something is."""
        well = looked = time.monotonic()
        while True:
            self._pause()
            if process.dead:
                return "died"
            if time.monotonic() - looked > min(self.patience.look, self.patience.stall):
                if healthy(self.host, self.port, self.token.value, self.patience.stall):
                    well = time.monotonic()
                looked = time.monotonic()
                if looked - well > self.patience.stall:
                    return f"no healthy answer for {looked - well:.0f} s"

    def _pause(self) -> None:
        time.sleep(self.patience.poll)
        if os.getppid() != self.starter:
            raise _Ended("the process that started it has ended")

    def _say(self, what: str) -> None:
        print(f"{self.service.name}: {what}", flush=True)

    def _failed(self, what: str, process: ServerProcess) -> Failed:
        return Failed(
            f"{self.service.name} of {self.service.model}: {what}. The end of {self.log}:\n{masked(process.tail())}"
        )


def _end(process: ServerProcess) -> None:
    with _deaf():
        process.end()


def _listen(service: Service) -> socket.socket:
    try:
        return socket.create_server((service.host, service.port), backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"--host {service.host} --port {service.port}: {reason}; use another port, or 0 for any that is free"
        ) from None


@contextmanager
def _endable() -> Iterator[None]:
    """Signals that ask to end are raised as _Ended."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise _Ended(signal.Signals(number).name)

    before = [(number, signal.signal(number, end)) for number in ENDING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """Asked once to end is enough: what is being ended is ended to the last."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in ENDING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
