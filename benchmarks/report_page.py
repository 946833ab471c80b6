"""How long the report's page takes to write, to open and to show an episode, in headless Chromium.

    python benchmarks/report_page.py [--episodes 10000] [--repeat 5]

The episodes are the workflow oracle's on telecom's training tasks, over and over, as one evaluation. Opening is counted
from navigation; showing, from the click until all turns are there. Charts are drawn once the page is open.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/report"))

from browser import Browser, find_chromium  # noqa: E402

LIMIT = 2.0  # seconds until it is open


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("report page: not measured, Chromium is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        outputs, page = Path(folder) / "outputs", Path(folder) / "page"
        multiply(outputs, args.episodes)
        seconds = command("-m", "tau2_exp", "report", str(outputs), "--html", str(page))
        size = sum(file.stat().st_size for file in page.rglob("*") if file.is_file()) / 1e6
        print(f"{args.episodes:,} episodes: written in {seconds:.1f} s of CPU, {size:.1f} MB")
        listed, charted, shown = zip(*(look(chromium, page / "index.html") for _ in range(args.repeat)), strict=True)
    print(f"open with its list of episodes in {told(listed)}, bound {LIMIT:g} s")
    print(f"the first chart drawn in {told(charted)}; an episode shown in {told(shown)}")


def multiply(outputs: Path, count: int) -> None:
    """One evaluation by the oracle, its episodes repeated as further samples until there are `count`."""
    evaluation = ["policy=oracle", "domain.eval_splits=[train]", "stage.greedy=false", "stage.samples_per_prompt=1"]
    command("run.py", "stage=eval", *evaluation, "name=many", f"outputs={outputs}")
    path = outputs / "many/trajectories/train.jsonl"
    lines = path.read_text().splitlines()
    with path.open("w") as file:
        for line in itertools.islice(itertools.cycle(lines), count):
            file.write(line + "\n")


def command(*arguments: str) -> float:
    """The CPU seconds of one command."""
    before = cpu_of_children()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return cpu_of_children() - before


def cpu_of_children() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


WATCH = """
new MutationObserver(() => {
  if (!window.listed && document.querySelector(".viewer [role=option]")) window.listed = performance.now();
  if (!window.charted && document.querySelector("svg.main-svg")) window.charted = performance.now();
}).observe(document, {childList: true, subtree: true});
"""


def look(chromium: str, page: Path) -> tuple[float, float, float]:
    """Seconds until the list is there, until the first chart is, and to show an episode; in a fresh browser."""
    with tempfile.TemporaryDirectory() as profile, Browser(chromium, Path(profile)) as browser:
        there = browser.open("about:blank")
        there.send("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        there.go(page.as_uri())
        there.wait_for("window.listed && window.charted")
        listed, charted = there.run("[listed, charted]")
        begun = time.perf_counter()
        there.run("document.querySelectorAll('.viewer [role=option]')[3].click()")
        there.wait_for("document.querySelector('.pane .checks')")
        return listed / 1e3, charted / 1e3, time.perf_counter() - begun


def told(seconds: Iterable[float]) -> str:
    ordered = sorted(seconds)
    return f"{statistics.median(ordered):.2f} s ({ordered[0]:.2f} to {ordered[-1]:.2f})"


if __name__ == "__main__":
    main()
