"""Set up what is missing, and nothing twice: `python launchers/setup.py [--extras dev,hf,…]`. Standard library only.

The active virtual environment is used, else .venv, which sees the system's packages. Packages that were there before
us stay as they are: slime's container keeps its torch, megatron-core and sglang. Prints the Python to use.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 3
STAMP = Path(sys.prefix) / ".tau2_exp-setup"


def main() -> int:
    """Install what is missing; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="hf", help="of pyproject.toml, by comma")
    extras = parser.parse_args().extras
    if sys.prefix == sys.base_prefix:
        return _in_own_environment(sys.argv[1:])
    done = _stamp_lines()
    wanted = f"{extras} {_fingerprint()}"
    if wanted not in done:
        constraints = _constraints(ours=bool(done))
        _install_torch(constraints)
        _pip("--constraint", str(constraints), "--editable", f"{ROOT}[{extras}]")
        STAMP.write_text("\n".join([*done, wanted]) + "\n")
        _say(f"done; `source {Path(sys.prefix).name}/bin/activate` makes `python` this environment's")
    return 0


def _in_own_environment(arguments: list[str]) -> int:
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        _say("making .venv")
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", ROOT / ".venv"], check=True)
    return subprocess.run([python, __file__, *arguments], check=False).returncode


def _install_torch(constraints: Path) -> None:
    if importlib.util.find_spec("torch"):
        return
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("torch=="))
    if shutil.which("nvidia-smi"):
        _say(f"installing {pinned} for the GPU")
        _pip("--constraint", str(constraints), "torch")
        return
    _say(f"installing {pinned} for the CPU")
    if _answers(f"{CPU_INDEX}/torch/"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--index-url", CPU_INDEX, pinned]
        if subprocess.run(command, check=False).returncode == 0:
            return
    _pip("--constraint", str(constraints), pinned)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def _constraints(ours: bool) -> Path:
    """constraints.txt less what was there before us: what others rely on is not moved."""
    kept = {
        _plain(package.metadata["Name"]) for package in importlib.metadata.distributions() if _foreign(package, ours)
    }
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    left = Path(sys.prefix) / ".tau2_exp-constraints.txt"
    left.write_text("".join(f"{line}\n" for line in lines if _plain(line.partition("==")[0]) not in kept))
    return left


def _foreign(package: importlib.metadata.Distribution, ours: bool) -> bool:
    """Whether a package was there before the first set-up of this environment."""
    return not (ours and Path(str(package.locate_file(""))).is_relative_to(sys.prefix))


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _fingerprint() -> str:
    """Of what the set-up depends on, the place included: an editable install points at it."""
    parts = [str(ROOT).encode(), *((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _stamp_lines() -> list[str]:
    return STAMP.read_text().splitlines() if STAMP.exists() else []


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    _say("pip install " + " ".join(arguments))
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(status)


def _say(text: str) -> None:
    print(f"set-up: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
