"""Names of runs: they become folders, and stand in commands, scripts and URLs."""

from __future__ import annotations

import re

NAME_RULE = "must be a name of at most 100 of the letters a-z A-Z 0-9 . _ - + = @ that begins with a letter or a digit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,99}")


def is_name(name: str) -> bool:
    """Whether a run's folder may have this name."""
    return _NAME.fullmatch(name) is not None
