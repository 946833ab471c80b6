"""The study of docs/credit.md: `python launchers/credit_study.py` runs what docs/credit/runs.csv still lacks.

Every arm trains from the same seed's SFT model, at the same total of sampled tokens. First a search: each arm at three
learning rates with two seeds of its own, judged on development tasks. Then each arm at its best rate with eight seeds,
judged on test. A finished run is a row of the CSV file, so that the study goes on on any machine.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "docs" / "credit" / "runs.csv"
BENCH = ROOT / "docs" / "credit" / "bench.csv"  # what `tau2_exp credit` found of each arm's reward
ARMS = {
    "outcome": "reward=outcome",
    "shaped": "reward=shaped reward.alpha=0.25",
    "shaped-plain": "reward=shaped reward.alpha=0.25 reward.outcome_over_deviation=false",
    "turn-0.5": "reward=turn_level reward.alpha=0.5",
    "turn-1": "reward=turn_level reward.alpha=1",
    "turn-2": "reward=turn_level reward.alpha=2",
    "anchor": "reward=anchor",
    "branch": "reward=branch",
}
ESTIMATORS = {  # the arms' names in the bench
    "outcome": "outcome",
    "shaped": "shaped alpha=0.25",
    "shaped-plain": "shaped alpha=0.25 without deviation",
    "turn-0.5": "turn_level alpha=0.5 baseline=state",
    "turn-1": "turn_level alpha=1 baseline=state",
    "turn-2": "turn_level alpha=2 baseline=state",
    "anchor": "anchor world+last_observation",
    "branch": "branch",
}
RATES = (1.5e-4, 3e-4, 6e-4)
SEARCH_SEEDS, SEEDS = (100, 101), tuple(range(8))
SEARCH, FINAL = "search", "final"
BY_TURNS, BY_OUTCOME = ("turn-0.5", "turn-1", "turn-2"), ("outcome", "shaped", "shaped-plain")
MEASURES = ("test", "development", "area")


@dataclass(frozen=True)
class Job:
    """One run: an arm at a learning rate with a seed, for the search or for the answer."""

    phase: str
    arm: str
    seed: int
    rate: float

    @property
    def words(self) -> list[str]:
        """What `run.py` is told."""
        words = ["experiment=credit", *ARMS[self.arm].split(), f"seed={self.seed}", f"stage.grpo.lr={self.rate:g}"]
        return [*words, "domain.eval_splits=[development]"] if self.phase == SEARCH else words


@dataclass(frozen=True)
class Row:
    """What a finished run says: scores (pass@1), its learning curve, and how its credit differed.

    `curve` has the outcome on development tasks by the tokens sampled so far, as `0:0.35 16000:0.4 …` (empty: not
    kept), and `area` is its mean height. `with_outcome` is the correlation of its
    advantages with those of `outcome` on its own episodes; `share`, `sign` and `matched` are the means over its steps
    of credit_share, credit_sign and credit_matched.
    """

    phase: str
    arm: str
    seed: int
    rate: float
    development: float
    test: float | None
    area: float
    tokens: int
    with_outcome: float | None
    share: float | None
    sign: float | None
    matched: float | None
    commit: str
    curve: str = ""

    @property
    def points(self) -> list[tuple[int, float]]:
        """The learning curve: sampled tokens, and the outcome on development tasks."""
        pairs = (point.split(":") for point in self.curve.split())
        return [(int(tokens), float(outcome)) for tokens, outcome in pairs]

    @property
    def job(self) -> Job:
        """The run that it is of."""
        return Job(self.phase, self.arm, self.seed, self.rate)


def main() -> int:
    """Run what is missing, or say what there is; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one core (default: 1)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "credit-study", help="the run folders")
    parser.add_argument("--missing", action="store_true", help="list what is missing, and run nothing")
    parser.add_argument("--tables", action="store_true", help="print the tables of docs/credit.md, and run nothing")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="draw answer.svg and curves.svg, and run nothing")
    arguments = parser.parse_args()
    if arguments.tables:
        print(tables())
    if arguments.svg:
        from tau2_exp.report.drawings import draw

        for name, drawing in zip(("answer", "curves"), draw([answer_figure(), curves_figure()]), strict=True):
            (arguments.svg / f"{name}.svg").write_text(drawing, encoding="utf-8")
    if arguments.tables or arguments.svg:
        return 0
    for phase in (SEARCH, FINAL):
        jobs = missing(phase, arguments.arms)
        if arguments.missing:
            print("\n".join(f"{job.phase}: {' '.join(job.words)}" for job in jobs))
        elif jobs and not run_all(jobs, arguments.outputs, arguments.jobs):
            return 1
    return 0


def missing(phase: str, arms: Sequence[str]) -> list[Job]:
    """The runs of a phase that have no row; of the answer, only those of arms whose search is done."""
    done = {row.job for row in read_rows()}
    if phase == SEARCH:
        jobs = [Job(SEARCH, arm, seed, rate) for seed in SEARCH_SEEDS for rate in RATES for arm in arms]
    else:
        found = best_rates()
        jobs = [Job(FINAL, arm, seed, found[arm]) for seed in SEEDS for arm in arms if arm in found]
    return [job for job in jobs if job not in done]


def best_rates() -> dict[str, float]:
    """Each arm's rate of the best mean score on development tasks; arms whose search is not done have none."""
    scores: dict[str, dict[float, list[float]]] = {arm: {} for arm in ARMS}
    for row in read_rows():
        if row.phase == SEARCH:
            scores[row.arm].setdefault(row.rate, []).append(row.development)
    whole = {arm: rates for arm, rates in scores.items() if [len(s) for s in rates.values()] == [len(SEARCH_SEEDS)] * 3}
    return {arm: max(rates, key=lambda rate: fmean(rates[rate])) for arm, rates in whole.items()}


def run_all(jobs: Sequence[Job], outputs: Path, workers: int) -> bool:
    """Run these jobs and add their rows; False where one failed, which says why in its own words."""
    lock = threading.Lock()

    def run(job: Job) -> bool:
        print(f"{job.phase}: {' '.join(job.words)}", flush=True)
        # Runs of one seed share their SFT model, which is made once.
        before = [*job.words, "stage.stages=[demos,sft]", "stage.evaluate=false"]
        with lock:
            ready = _run_py(before, outputs)
        if not ready or not _run_py([*job.words, f"name={name_of(job)}"], outputs):
            return False
        row = row_of(job, outputs / name_of(job))
        with lock:
            write_rows([*read_rows(), row])
        print(f"{name_of(job)}: development {row.development:.3f}, area {row.area:.3f}", flush=True)
        return True

    with ThreadPoolExecutor(workers) as pool:
        return all(list(pool.map(run, jobs)))


def name_of(job: Job) -> str:
    """The name of a job's pipeline."""
    return f"{job.arm}-{job.seed}-{job.rate:g}"


def row_of(job: Job, folder: Path) -> Row:
    """The row of a finished pipeline."""
    from tau2_exp.report.treatments import correlation_with_outcome
    from tau2_exp.runs.run import Run

    members = Run.open(folder).members
    grpo = next(run for run in members if run.stage == "grpo")
    scores = next(run for run in members if run.parent and run.parent.stage == "grpo").results["splits"]
    metrics = grpo.metrics()
    values = {
        name: [record[name] for record in metrics if name in record]
        for name in ("credit_share", "credit_sign", "credit_matched")
    }
    share, sign, matched = (fmean(found) if found else None for found in values.values())
    test = scores["test"]["measures"]["pass@1"]["value"] if "test" in scores else None
    curve = [(record["sampled_tokens"], record["eval/outcome"]) for record in metrics if "eval/outcome" in record]
    return Row(
        **asdict(job),
        development=scores["development"]["measures"]["pass@1"]["value"],
        test=test,
        area=area(curve),
        tokens=grpo.results["sampled_tokens"],
        with_outcome=correlation_with_outcome(grpo),
        share=share,
        sign=sign,
        matched=matched,
        commit=(grpo.manifest.commit or "")[:12],
        curve=" ".join(f"{tokens}:{outcome:g}" for tokens, outcome in curve),
    )


def area(curve: Sequence[tuple[int, float]]) -> float:
    """The mean height of a curve over its whole width, by trapezia."""
    parts = [(b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(curve)]
    return sum(parts) / (curve[-1][0] - curve[0][0])


def tables() -> str:
    """The rows as the tables of docs/credit.md, in Markdown."""
    return "\n\n".join([_search_table(), _final_table(), _together_table()])


def _search_table() -> str:
    best, rows = best_rates(), [row for row in read_rows() if row.phase == SEARCH]
    heads = ["arm", *(f"{rate:g}" for rate in RATES), "with outcome"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in ARMS:
        found = {rate: [row.development for row in rows if (row.arm, row.rate) == (arm, rate)] for rate in RATES}
        cells = [_cell(scores, best.get(arm) == rate) for rate, scores in found.items()]
        cells.append(_mean([row.with_outcome for row in rows if row.arm == arm]))
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(scores: Sequence[float], chosen: bool) -> str:
    if len(scores) < len(SEARCH_SEEDS):
        return f"{len(scores)} of {len(SEARCH_SEEDS)} runs"
    return f"**{fmean(scores):.3f}**" if chosen else f"{fmean(scores):.3f}"


def _final_table() -> str:
    heads = [head for name in MEASURES for head in (name, f"{name}, less outcome's")]
    lines = [f"| arm | runs | with the truth | with outcome | {' | '.join(heads)} |", "|---" * (4 + len(heads)) + "|"]
    truth, finals = _with_truth(), _finals()
    for arm, rows in finals.items():
        cells = [f"{len(rows)} of {len(SEEDS)}", f"{truth[arm]:.2f}"]
        cells.append(_mean([row.with_outcome for row in rows.values()]))
        for name in MEASURES:
            cells += [_mean([getattr(row, name) for row in rows.values()]), _difference(differences(finals, arm, name))]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _together_table() -> str:
    """How the turns' arms together end beside those of the outcome."""
    lines = ["| | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    finals, cells = _finals(), []
    seeds = [seed for seed in SEEDS if all(seed in finals[arm] for arm in (*BY_TURNS, *BY_OUTCOME))]
    for name in MEASURES:
        ours, others = (
            [fmean(getattr(finals[arm][seed], name) for arm in arms) for seed in seeds]
            for arms in (BY_TURNS, BY_OUTCOME)
        )
        cells.append(_difference([one - other for one, other in zip(ours, others, strict=True)], compared=1))
    lines.append(f"| {', '.join(BY_TURNS)} less {', '.join(BY_OUTCOME)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_truth() -> dict[str, float]:
    with BENCH.open(newline="", encoding="utf-8") as file:
        found = {line["name"]: float(line["corrected"]) for line in csv.DictReader(file)}
    return {arm: found[name] for arm, name in ESTIMATORS.items()}


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.3f}" if known else ""


def _difference(pairs: Sequence[float], compared: int = len(ARMS) - 1) -> str:
    if len(pairs) < 2:
        return ""
    middle, half = fmean(pairs), reach(pairs, compared)
    return f"{middle:+.3f} [{middle - half:+.3f}, {middle + half:+.3f}]"


def answer_figure() -> go.Figure:
    """How far each arm ended above outcome: the mean with its interval, and a dot for each seed."""
    from plotly.subplots import make_subplots

    from tau2_exp.report.figures import COLOURS

    names = [f"{name}, less outcome's" for name in MEASURES]
    drawn = make_subplots(rows=1, cols=len(MEASURES), shared_yaxes=True, subplot_titles=names)
    finals = _finals()
    for column, name in enumerate(MEASURES, start=1):
        found = {arm: pairs for arm in ARMS if len(pairs := differences(finals, arm, name)) > 1}
        dots = [(pair, arm) for arm, pairs in found.items() for pair in pairs]
        drawn.add_scatter(
            x=[pair for pair, _ in dots],
            y=[arm for _, arm in dots],
            mode="markers",
            marker={"size": 5, "color": "#888888", "opacity": 0.6},
            row=1,
            col=column,
        )
        drawn.add_scatter(
            x=[fmean(pairs) for pairs in found.values()],
            y=list(found),
            mode="markers",
            marker={"size": 10, "color": COLOURS[0], "symbol": "diamond"},
            error_x={"type": "data", "array": [reach(pairs) for pairs in found.values()]},
            row=1,
            col=column,
        )
    drawn.add_vline(x=0, line={"dash": "dot", "color": "#888888"})
    drawn.update_yaxes(autorange="reversed", automargin=True)
    drawn.update_layout(height=340, margin={"t": 40, "b": 40, "r": 20}, showlegend=False)
    drawn.update_annotations(font_size=13)
    return drawn


def curves_figure() -> go.Figure:
    """Each arm's learning curve, mean of its seeds."""
    import plotly.graph_objects as go

    from tau2_exp.report.figures import line_styles

    drawn, styles = go.Figure(), line_styles(list(ARMS))
    for arm, rows in _finals().items():
        known = [row.points for row in rows.values() if row.curve]
        colour, dash = styles[arm]
        drawn.add_scatter(
            x=[fmean(tokens for tokens, _ in points) for points in zip(*known, strict=True)],
            y=[fmean(outcome for _, outcome in points) for points in zip(*known, strict=True)],
            name=arm,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    drawn.update_xaxes(title="sampled tokens")
    drawn.update_yaxes(title="outcome on 40 development tasks, greedy")
    drawn.update_layout(height=420, margin={"t": 20, "b": 60, "r": 20})
    return drawn


def _finals() -> dict[str, dict[int, Row]]:
    """The rows of the answer, by arm and seed."""
    rows = [row for row in read_rows() if row.phase == FINAL]
    return {arm: {row.seed: row for row in rows if row.arm == arm} for arm in ARMS}


def differences(finals: Mapping[str, Mapping[int, Row]], arm: str, measure: str) -> list[float]:
    """An arm's scores less those of `outcome`, seed by seed; none for `outcome` itself."""
    ours, outcomes = finals[arm], finals["outcome"]
    pairs = [(ours[seed], outcomes[seed]) for seed in ours if seed in outcomes and arm != "outcome"]
    return [getattr(one, measure) - getattr(other, measure) for one, other in pairs]


def reach(pairs: Sequence[float], compared: int = len(ARMS) - 1) -> float:
    """Half of Student's 95 % interval of their mean, corrected for so many comparisons (Bonferroni)."""
    from tau2_exp.statistics.student import t_quantile

    return t_quantile(1 - 0.025 / compared, len(pairs) - 1) * stdev(pairs) / len(pairs) ** 0.5


def read_rows() -> list[Row]:
    """The rows of ROWS; none where there is no such file."""
    if not ROWS.is_file():
        return []
    with ROWS.open(newline="", encoding="utf-8") as file:
        return [_row(line) for line in csv.DictReader(file)]


def write_rows(rows: Sequence[Row]) -> None:
    """All rows, ordered, in place of what ROWS holds."""
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    order = sorted(rows, key=lambda row: (row.phase != SEARCH, list(ARMS).index(row.arm), row.rate, row.seed))
    fresh = ROWS.with_suffix(".new")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(_told(row)) for row in order)
    fresh.replace(ROWS)


def _row(line: dict[str, str]) -> Row:
    return Row(**{field.name: _value(field.type, line[field.name]) for field in fields(Row)})


def _told(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in asdict(row).items():
        yield name, f"{value:.6g}" if isinstance(value, float) else value


def _value(kind: Any, text: str) -> Any:
    if text == "" and "None" in str(kind):
        return None
    return {"int": int, "str": str}.get(str(kind), float)(text)


def _run_py(words: Sequence[str], outputs: Path) -> bool:
    from tau2_exp.system.quoting import override

    command = [sys.executable, str(ROOT / "run.py"), *words, override("outputs", str(outputs))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"failed: {' '.join(words)}\n{(done.stdout + done.stderr)[-2000:]}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
