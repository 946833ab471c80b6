"""What does the default run cost, and what does each stage bring? Seeds 0, 1, 2 of `python run.py`.

    python benchmarks/pipeline.py [OVERRIDE…] [--seeds 0,1,2] [--jobs 1] [--outputs FOLDER]

Prints, a seed, the CPU seconds and peak memory of the whole run (its processes, evaluations included),
then test pass@1 at temperature 1 of each stage, the mean over seeds, and the paired differences between
stages with a 95 % interval, over tasks and over seeds.
Finished runs in `--outputs` are found again; their cost is then not measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from subprocess import DEVNULL, Popen

from tau2_exp.runs.run import Run
from tau2_exp.statistics import Samples, compare, estimate

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--split", default="test")
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "benchmark")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda seed: _run(seed, arguments.overrides, arguments.outputs), seeds))
    runs = [Run.open(arguments.outputs / f"seed{seed}") for seed in seeds]
    _compare([_by_stage(run, arguments.split) for run in runs], arguments.split)


def _run(seed: int, overrides: list[str], outputs: Path) -> None:
    name = f"seed{seed}"
    if (outputs / name / "results.json").exists():
        print(f"seed {seed}: found, its cost is not measured")
        return
    command = [sys.executable, "run.py", *overrides, f"seed={seed}", f"name={name}", f"outputs={outputs}"]
    process = Popen(command, cwd=ROOT, stdout=DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"seed {seed}: {' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    print(f"seed {seed}: {seconds:.0f} CPU seconds, {megabytes:.0f} MB at most", flush=True)


def _by_stage(run: Run, split: str) -> dict[str, Samples]:
    evaluations = [member for member in run.members if member.stage == "eval"]
    return {e.parent.stage: e.results["splits"][split]["outcomes"] for e in evaluations if e.parent}


def _compare(seeds: list[dict[str, Samples]], split: str) -> None:
    stages = list(seeds[0])
    print(f"\n{split} pass@1     " + "  ".join(f"{f'seed {i}':>6}" for i in range(len(seeds))) + "    mean")
    for stage in stages:
        values = [estimate(by_stage[stage]).value for by_stage in seeds]
        mean = estimate([by_stage[stage] for by_stage in seeds])
        cells = "  ".join(f"{value:6.3f}" for value in values)
        print(f"{stage:15} {cells}   {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] over {mean.tasks} tasks")
    for before, after in pairwise(stages):
        a, b = ({seed: by_stage[stage] for seed, by_stage in enumerate(seeds)} for stage in (after, before))
        gain = compare(a, b).difference
        print(f"{after} − {before}: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")


if __name__ == "__main__":
    main()
