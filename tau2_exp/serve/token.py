"""The secret that a server's clients send: any web page and any user of the machine can reach a port on loopback."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tau2_exp.config import ConfigError
from tau2_exp.llm.secrets import keep_secret, secret
from tau2_exp.serve.service import Role
from tau2_exp.system.code import run_command
from tau2_exp.system.private import write_private

FORM = re.compile(r"[A-Za-z0-9._~+/][A-Za-z0-9._~+/-]{15,}=*")  # of a bearer token (RFC 6750), and no flag of a command
VARIABLE = "TAU2_SERVER_TOKEN"  # where the commands that we print put a token that we made


@dataclass(frozen=True, slots=True)
class Token:
    """What a client sends as `Authorization: Bearer`; `variable` is where it was read, None where it was made here."""

    value: str = field(repr=False)
    variable: str | None = None


def find_token(name: str | None) -> Token:
    """The token that the environment variable `name` holds; a new one where none is named.

    Raises ConfigError where the variable is not set, or its value cannot be a token.
    """
    if name is None:
        made = secrets.token_hex(32)
        keep_secret(made)
        return Token(made)
    value = secret(name)
    if not FORM.fullmatch(value):
        raise ConfigError(
            f"--token-env {name}: its value must have 16 characters or more, all of A-Z a-z 0-9 . _ ~ + / -, "
            "and not begin with -"
        )
    return Token(value, name)


@contextmanager
def key_file(token: Token) -> Iterator[Path]:
    """A file with the token, for a server that starts: every user of the machine can read its command line.

    It is what SGLang's `--config` reads: YAML, and JSON is YAML.
    """
    with TemporaryDirectory(prefix="tau2_exp-") as folder:
        path = Path(folder) / "key.yaml"
        write_private(path, json.dumps({"api-key": token.value}))
        yield path


def how_to_ask(role: Role, url: str, token: Token, ready: Path | None) -> list[str]:
    """Lines that say how a run uses the server. They show the token only where no file and no variable holds it."""
    variable = token.variable or VARIABLE
    if role is Role.user:
        asks = f"user=litellm user.model=openai/NAME user.api_base={url}/v1 user.api_key_env={variable}"
    else:
        asks = f"stage=eval policy=sglang policy.url={url} policy.api_key_env={variable}"
    lines = ["to ask it, send its token, as this does:"]
    if token.variable is None:
        said = token.value if ready is None else f'"$({_reads(ready)})"'
        lines.append(f"  export {variable}={said}")
    return [*lines, f"  {run_command()} {asks} …"]


def _reads(ready: Path) -> str:
    """A shell's command that prints the token of a ready file."""
    return f"python -c 'import json, sys; print(json.load(open(sys.argv[1]))[\"token\"])' {shlex.quote(str(ready))}"
