"""What a plan is made of: commands of this machine, each with what it needs and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """One process. It starts when those it needs have ended well, or, where they are servers, are ready."""

    name: str  # unique within a plan
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)  # beside the environment there is; never a secret
    needs: tuple[str, ...] = ()  # names of commands before it
    cwd: str | None = None
    makes: str | None = None  # a path: where it is there already, there is nothing left to do
    ready: str | None = None  # a server's: the file that it writes once it answers
    until: str | None = None  # a server's: the command after which it is ended
