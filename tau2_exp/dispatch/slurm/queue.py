"""The states of SLURM jobs: from the controller, and from accounting for jobs that the controller has forgotten."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tau2_exp.config import ConfigError

WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
SECONDS = 30.0  # for an answer


@dataclass(frozen=True)
class Entry:
    """A job in the queue, or what became of it."""

    state: str  # in SLURM's words
    reason: str = ""
    nodes: str = ""
    time: str = ""  # since it began this time: [days-][hours:]minutes:seconds

    @property
    def waiting(self) -> bool:
        """Whether the job has yet to start."""
        return self.state in WAITING

    @property
    def running(self) -> bool:
        """Whether the job has started and holds its nodes, also while it is suspended or completing."""
        return self.state in RUNNING

    @property
    def seconds(self) -> float | None:
        """Seconds since the job last began; None where SLURM gives no time."""
        if not re.fullmatch(r"(\d+-)?(\d+:)*\d+", self.time):
            return None
        days, _, clock = self.time.rpartition("-")
        units = [float(part) for part in reversed(clock.split(":"))]
        return sum(unit * 60**power for power, unit in enumerate(units)) + 86400 * float(days or 0)

    @property
    def live(self) -> bool:
        """Whether the job waits or runs."""
        return self.waiting or self.running


def look_up(ids: Iterable[str]) -> dict[str, Entry]:
    """The entries of these jobs, by id; jobs that SLURM does not know are left out. Raises ConfigError without it."""
    wanted = set(ids)
    if not wanted:
        return {}
    found = _controller(wanted)
    return found | _accounting(wanted - found.keys())


def ids_of(names: Iterable[str]) -> dict[str, str]:
    """The ids of the jobs and arrays with these names, by name; names that the queue does not know are left out.

    Raises ConfigError where the queue cannot be queried.
    """
    wanted = sorted(set(names))
    done = ask("squeue", "--noheader", "--states=all", f"--name={','.join(wanted)}", "--format=%F|%j")
    if done.returncode:
        raise ConfigError(f"squeue: {done.stderr.strip()}")
    rows = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {name: number for number, _, name in rows if name in wanted}


def cancel(ids: Sequence[str]) -> None:
    """Cancel these jobs; with none, do nothing. Raises ConfigError where SLURM refuses."""
    if ids:
        done = ask("scancel", *ids)
        if done.returncode:
            raise ConfigError(f"scancel: {done.stderr.strip()}")


def ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands, which may fail; its output is text.

    Raises ConfigError where it is not installed, or gives no answer within SECONDS.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        raise ConfigError(f"{command[0]}: not found here; SLURM's commands are on its login nodes") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]}: SLURM did not answer within {SECONDS:.0f} s; try again") from None


def _controller(ids: set[str]) -> dict[str, Entry]:
    mains = sorted({job.partition("_")[0] for job in ids})
    done = ask(
        "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(mains)}", "--format=%i|%T|%r|%N|%M"
    )
    if done.returncode and "Invalid job id" not in done.stderr:
        raise ConfigError(f"squeue: {done.stderr.strip()}")
    rows = (line.strip().split("|") for line in done.stdout.splitlines())
    return {row[0]: Entry(*row[1:]) for row in rows if row[0] in ids}


def _accounting(ids: set[str]) -> dict[str, Entry]:
    """Entries from sacct; none on a cluster without accounting, where the run's own folder decides."""
    if not ids:
        return {}
    try:
        done = ask(
            "sacct",
            "--noheader",
            "--allocations",
            "--parsable2",
            "--format=JobID,State",
            f"--jobs={','.join(sorted(ids))}",
        )
    except ConfigError:
        return {}
    rows = (line.split("|") for line in done.stdout.splitlines())
    return {row[0]: Entry(row[1].split()[0]) for row in rows if row[0] in ids and row[1].strip()}
