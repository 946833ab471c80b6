"""Doing a plan: its commands in order of their needs, its servers beside them, and nothing left behind.

A command's output goes into logs/NAME.log in the run's folder. What is there already is not made again, so the same
plan goes on where a killed attempt ended. Nothing here knows where it runs: a worker on SLURM does the same.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tau2_exp.engines.slime.cluster.progress import PlanProgress, clock
from tau2_exp.system.commands import Command
from tau2_exp.system.processes import end, how_it_ended, last_lines, start, status_of, undisturbed

POLL_SECONDS = 0.1
TOLD_LINES = 20  # of a failed command's log, on the terminal
KEPT_LINES = 5  # of them, in the message


class CommandFailed(Exception):
    """A command failed; the message names it, its status, its log and the log's last lines."""


@dataclass
class _Running:
    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)
    answers: bool = False  # a server's: it is ready

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def left_to_do(commands: Sequence[Command]) -> list[Command]:
    """What still must run, as `make` finds it: from the last commands back, as far as something is missing.

    Raises ValueError where a command needs one that does not stand before it.
    """
    _check(commands)
    needed = {name for command in commands for name in command.needs}
    asked = {command.name for command in commands if command.ready is None and command.name not in needed}
    todo: list[Command] = []
    for command in reversed(commands):
        if command.name in asked and not (command.makes and Path(command.makes).exists()):
            todo.insert(0, command)
            asked |= set(command.needs)
    return todo


def _check(commands: Sequence[Command]) -> None:
    before: set[str] = set()
    for command in commands:
        if command.name in before:
            raise ValueError(f"plan: two commands are named {command.name}")
        if unknown := set(command.needs) - before:
            raise ValueError(f"plan: {command.name} needs {', '.join(sorted(unknown))}, which does not come before it")
        before.add(command.name)


def execute(commands: Sequence[Command], folder: Path, start_seconds: float) -> None:
    """Do what is left of the plan. `start_seconds` is how long a server may take until it answers.

    Raises CommandFailed. However this ends, all that it started is ended.
    """
    todo = left_to_do(commands)
    for command in commands:
        if command.ready:
            Path(command.ready).unlink(missing_ok=True)  # a killed attempt's
    with PlanProgress(folder, [command.name for command in commands if command not in todo]) as progress:
        execution = _Execution(todo, folder, start_seconds, progress)
        try:
            execution.run()
        finally:
            with undisturbed():
                end([running.process for running in execution.running.values()])


class _Execution:
    def __init__(self, todo: Sequence[Command], folder: Path, start_seconds: float, progress: PlanProgress):
        self.waiting = list(todo)
        self.folder, self.start_seconds, self.progress = folder, start_seconds, progress
        self.running: dict[str, _Running] = {}
        self.done = {name for command in todo for name in command.needs} - {command.name for command in todo}

    def run(self) -> None:
        while self.waiting or any(running.command.ready is None for running in self.running.values()):
            self._start_what_can()
            for running in list(self.running.values()):
                self._look_at(running)
            self._end_idle_servers()
            working = max((r.seconds for r in self.running.values() if not r.command.ready), default=0.0)
            self.progress.tick({name: running.seconds for name, running in self.running.items()}, working)
            time.sleep(POLL_SECONDS)

    def _start_what_can(self) -> None:
        for command in [c for c in self.waiting if self.done.issuperset(c.needs)]:
            self.waiting.remove(command)
            log = self.folder / "logs" / f"{command.name}.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("a") as file:
                file.write(f"$ {shlex.join(command.argv)}\n")
            if command.ready:
                Path(command.ready).parent.mkdir(exist_ok=True)
            self.progress.say(f"{command.name}: started, output in {log}")
            try:
                process = start(command.argv, command.env, log, command.cwd)
            except OSError as error:
                raise CommandFailed(f"{command.name}: cannot start: {error}") from None
            self.running[command.name] = _Running(command, process, log)

    def _look_at(self, running: _Running) -> None:
        command, status = running.command, status_of(running.process)
        if command.ready:
            if status is not None:
                self._fail(running, f"a server that is still needed {how_it_ended(status)}")
            if not running.answers:
                self._await(running, Path(command.ready))
        elif status is not None:
            if status:
                self._fail(running, how_it_ended(status))
            if command.makes and not Path(command.makes).exists():
                self._fail(running, f"succeeded, but did not create {command.makes}")
            self._ended(running)

    def _await(self, running: _Running, ready: Path) -> None:
        if ready.exists():
            running.answers = True
            self.done.add(running.command.name)
            self.progress.say(f"{running.command.name}: ready after {clock(running.seconds)}")
        elif running.seconds > self.start_seconds:
            self._fail(running, f"not ready within {self.start_seconds:g} s (engine.slime.start_seconds)")

    def _ended(self, running: _Running) -> None:
        end([running.process])
        del self.running[running.command.name]
        self.done.add(running.command.name)
        self.progress.say(f"{running.command.name}: done in {clock(running.seconds)}")

    def _end_idle_servers(self) -> None:
        """Those whose last command has ended, and those that nothing needs any more."""
        open_ = {c.name for c in self.waiting} | {n for n, r in self.running.items() if r.command.ready is None}
        idle = [
            running
            for running in self.running.values()
            if running.command.ready and not self._serves(running.command, open_)
        ]
        if idle:
            with undisturbed():
                end([running.process for running in idle])
        for running in idle:
            del self.running[running.command.name]
            self.progress.say(f"{running.command.name}: ended after {clock(running.seconds)}")

    def _serves(self, server: Command, open_: set[str]) -> bool:
        if server.until in open_:
            return True
        commands = [*self.waiting, *(running.command for running in self.running.values())]
        needed = any(server.name in command.needs and command.name in open_ for command in commands)
        return needed and server.until not in self.done

    def _fail(self, running: _Running, what: str) -> NoReturn:
        lines = last_lines(running.log, TOLD_LINES)
        self.progress.say("\n".join(["", f"the end of {running.log}:", *(f"  {line}" for line in lines), ""]))
        told = " | ".join(lines[-KEPT_LINES:]) or "nothing"
        raise CommandFailed(
            f"{running.command.name}: {what} after {clock(running.seconds)}; log: {running.log}, which ends: {told}"
        )
