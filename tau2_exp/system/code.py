"""Where this code lies: in a checkout, conf/ and run.py beside the package, or installed, conf/ within it."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent  # on the path of every process that works for us
BUILT_FROM = PACKAGE / "commit.txt"  # written when a wheel is built


def is_checkout() -> bool:
    """Whether `python run.py` is there to be called."""
    return (ROOT / "run.py").is_file() and (ROOT / "conf").is_dir()


def conf_folder() -> Path:
    """Hydra's groups: conf/ of the checkout, or the package's own copy."""
    return ROOT / "conf" if is_checkout() else PACKAGE / "conf"


def run_command() -> str:
    """What a person types before overrides."""
    return "python run.py" if is_checkout() else "tau2-exp run"


def current_commit() -> str | None:
    """The checkout's commit, "+changes" behind it where tracked files differ; or the one that the wheel was built from.

    None where neither is known.
    """
    if not is_checkout():  # what git says of a folder around an installed package is not about this code
        return (BUILT_FROM.read_text().strip() or None) if BUILT_FROM.is_file() else None
    git = ["git", "--no-optional-locks", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed.stdout.strip() else "")
