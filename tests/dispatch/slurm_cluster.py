"""A SLURM to test on: one that answers here, else the sandbox beside the project, else a reason to skip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
SANDBOX = ROOT.parent / "shared" / "slurm-sandbox"
DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
PORT = 20000 + os.getpid() % 5000 * 4  # another session's sandbox may be up


@dataclass(frozen=True)
class Cluster:
    sandbox: Path | None  # its nodes may be taken down, and it has the partitions main and low; None: not ours

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()

    def preempted_by(self, seconds: int) -> str:
        """A job on all nodes that the jobs of the low partition make room for; its id."""
        wanted = ["--partition=main", "--nodes=2", "--exclusive", "--output=/dev/null"]
        return self.ask("sbatch", "--parsable", *wanted, f"--wrap=sleep {seconds}")

    def lose(self, node: str) -> None:
        """The node's daemon and all that its jobs run are gone at once, and the controller gives the node up."""
        assert self.sandbox is not None
        jobs = self.ask("squeue", "--noheader", f"--nodelist={node}", "--format=%A").split()
        daemon = int((self.sandbox / f"slurmd-{node}.pid").read_text())
        for pid in [daemon, *(pid for job in jobs for pid in _processes(job))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def bring_back(self, node: str) -> None:
        self.ask("slurmd", "-N", node)
        # SLURM refuses where the node came back by itself.
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True, check=False)
        wait_until(
            lambda: self.ask("sinfo", "--noheader", f"--nodes={node}", "--format=%t") != "down", "the node is back"
        )


def running_cluster(folder: Path) -> Iterator[Cluster]:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install '.[slurm]')")
    if _answers():
        yield Cluster(None)
        return
    if missing := [name for name in DAEMONS if shutil.which(name, path=_path()) is None]:
        pytest.skip(f"no SLURM answers here, and {', '.join(missing)} of a sandbox is not installed")
    if not (SANDBOX / "start.sh").is_file():
        pytest.skip(f"no SLURM answers here, and there is no sandbox in {SANDBOX}")
    before = {name: os.environ.get(name) for name in ("PATH", "SLURM_CONF", *_settings(folder))}
    os.environ |= {"PATH": _path(), **_settings(folder)}
    started = subprocess.run([SANDBOX / "start.sh"], capture_output=True, text=True, check=False, timeout=PATIENCE)
    try:
        if started.returncode:
            pytest.skip(f"the SLURM sandbox does not start here: {started.stderr.strip().splitlines()[-1]}")
        os.environ |= {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{_path()}"}
        yield Cluster(folder)
    finally:
        subprocess.run([SANDBOX / "stop.sh", "--purge"], capture_output=True, check=False, timeout=PATIENCE)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {name: value} if value is not None else {}


def _settings(folder: Path) -> dict[str, str]:
    """Two nodes of two cores; their names are addresses, so that Ray finds its head."""
    ports = {"SLURM_CTLD_PORT": str(PORT), "SLURM_SLURMD_PORT0": str(PORT + 1)}
    return {"SLURM_SANDBOX": str(folder), "SLURM_NODE_PREFIX": "127.0.0.", "SLURM_CPUS": "2", **ports}


def _processes(job: str) -> list[int]:
    """SLURM's own of this job first, then those that the job runs."""
    own, theirs = [], []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode()):
                own.append(int(path.name))
            elif f"SLURM_JOB_ID={job}".encode() in (path / "environ").read_bytes().split(b"\0"):
                theirs.append(int(path.name))
    return own + theirs


def _answers() -> bool:
    if shutil.which("sbatch") is None:
        return False
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False, timeout=PATIENCE)
    return done.returncode == 0


def _path() -> str:
    """Debian keeps daemons where only root looks."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
