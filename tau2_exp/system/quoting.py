"""Values that cross into another language, each quoted in one place: the shell, its comments, Hydra, sbatch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# Of a line of a script or a terminal, whatever would end it or act on it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What Hydra's grammar reads as one plain value, and as nothing else.
_PLAIN = re.compile(r"[A-Za-z/_][\w./@:+-]*", re.ASCII)
_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "nan", "inf")


def shell(words: Iterable[object]) -> str:
    """A command as a shell reads it."""
    return shlex.join(map(str, words))


def shell_comment(text: str) -> str:
    """A line that a shell skips: nothing in it begins another one."""
    return f"# {_CONTROL.sub(' ', text).strip()}"


def override(key: str, value: str) -> str:
    """`key=value` as Hydra reads it, whatever text the value is; for a shell it is quoted once more."""
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return f"{key}={value}"
    escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + r"\'", value)
    escaped = re.sub(r"(\\+)\Z", lambda found: 2 * found[1], escaped)
    return f"{key}='{escaped}'"


def setting(key: str, value: object) -> str:
    """`key=value` as one types it in a shell."""
    return shell([override(key, str(value))])


def sbatch_path(path: object) -> str:
    """A path as sbatch and srun take it where they would put a job's number in place of %j."""
    return str(path).replace("%", "%%")


def sbatch_name(text: str) -> str:
    """A valid name of a job, without the commas that divide names for squeue."""
    return re.sub(r"[^\w.+-]", "_", text)
