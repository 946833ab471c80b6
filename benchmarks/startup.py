"""How long run.py takes to answer, beside an empty Hydra app: `python benchmarks/startup.py [RUNS]`.

CPU seconds of the least disturbed of RUNS (default 9) starts of each, in turn. The bound is 0.3 s above the empty app.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND = 0.3
EMPTY_APP = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass

main()
"""


def cpu_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(EMPTY_APP)
        slow = False
        for arguments in (["--help"], ["--cfg", "job"]):
            commands = ([sys.executable, "run.py", *arguments], [sys.executable, str(app), *arguments])
            pairs = [[cpu_seconds(command) for command in commands] for _ in range(runs)]
            ours, empty = (min(column) for column in zip(*pairs, strict=True))
            slow |= ours - empty > BOUND
            print(
                f"run.py {' '.join(arguments):10} {ours:.2f} s   empty Hydra app {empty:.2f} s   "
                f"difference {ours - empty:+.2f} s (bound +{BOUND:.2f})   ratio {ours / empty:.2f}"
            )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
