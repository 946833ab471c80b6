"""Commands as a shell script that one could paste: servers beside what needs them, ended when it ends."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from tau2_exp.system.commands import Command
from tau2_exp.system.quoting import shell_comment

WIDTH = 110
HEAD = """\
(
set -euo pipefail
"""
SERVERS = """\
servers=()
end() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }
trap 'for server in "${servers[@]}"; do end "$server"; done' EXIT
await() { # PID FILE SECONDS
  for _ in $(seq "$3"); do
    if [ -e "$2" ]; then return; fi
    if ! kill -0 "$1" 2>/dev/null; then echo "$2: its server has exited" >&2; exit 1; fi
    sleep 1
  done
  echo "$2: not ready after $3 s" >&2
  exit 1
}
"""
FOOT = ")"


def script(blocks: Sequence[tuple[str, Sequence[Command]]], seconds: float) -> str:
    """A shell script of all blocks, each a comment and its commands. A server must answer within `seconds`."""
    lines = [HEAD]
    if any(command.ready for _, commands in blocks for command in commands):
        lines.append(SERVERS)
    for comment, commands in blocks:
        lines.append(shell_comment(comment))
        lines += _block(commands, seconds)
        lines.append("")
    return "\n".join([*lines, FOOT])


def _block(commands: Sequence[Command], seconds: float) -> Iterator[str]:
    servers = [command for command in commands if command.ready]
    if servers:
        yield f"mkdir -p {shlex.join(sorted({str(Path(str(server.ready)).parent) for server in servers}))}"
    for command in commands:
        if command.ready:
            variable = _variable(command)
            yield f"rm -f {shlex.quote(command.ready)}"
            yield f"{_call(command)} &"
            yield f"{variable}=$! servers+=($!)"
            yield f'await "${variable}" {shlex.quote(command.ready)} {seconds:g}'
        elif command.makes:
            yield f"[ -e {shlex.quote(command.makes)} ] || {_call(command)}"
        else:
            yield _call(command)
        yield from (f'end "${_variable(server)}"' for server in servers if server.until == command.name)


def _variable(server: Command) -> str:
    return re.sub(r"\W", "_", server.name.rpartition("/")[2], flags=re.ASCII)


def _call(command: Command) -> str:
    words = list(command.argv)
    if command.env:
        words = ["env", *(f"{name}={value}" for name, value in command.env.items()), *words]
    call = _wrapped(words)
    if command.cwd:
        return f"(cd {shlex.quote(command.cwd)} && exec {call})"
    return call


def _wrapped(words: Sequence[str]) -> str:
    """Long lines are broken before a flag."""
    lines = [""]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) > WIDTH and word.startswith("--"):
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)
