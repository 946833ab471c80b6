"""`slime PART FOLDER`: the parts of a stage that tau2_exp does where slime trains. A plan calls these by name.

tasks      slime/tasks.jsonl: one line a training task, for slime's --prompt-data
rows       slime/rows.jsonl: what SFT learns from, one encoded types.Row a line
samples    the same file for RFT: drawn from the served policy, and filtered
evaluate   the evaluation of the served policy, which finishes the run
demos      the demonstrations, where the user simulator is served for them; this finishes the run

The three that slime reads leave slime/config.yaml beside their file: where slime's hooks find the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tau2_exp.codec import encode
from tau2_exp.config import RftConfig
from tau2_exp.engines.slime.plan.places import ROWS, SETTINGS, SUMMARY, TASKS
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.jsonl import write_json, write_jsonl
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.demos import demos
from tau2_exp.stages.eval import evaluate
from tau2_exp.stages.policies import make_policy_factory, starting_point
from tau2_exp.stages.rows import sft_examples, sft_rows, sft_summary
from tau2_exp.stages.samples import draw_samples, kept_samples, rft_rows, rft_summary
from tau2_exp.types import Row


def do_part(part: str, run: Run) -> None:
    """`part` is one of PARTS. Raises ConfigError where the run gives it nothing to do."""
    PARTS[part](run)


def _write_tasks(run: Run) -> None:
    tasks = StageContext(run).tasks(run.config.domain.train_split)
    lines = (
        {"text": task.key, "index": index, "metadata": {"domain": task.domain, "task": task.id}}
        for index, task in enumerate(tasks)
    )
    _tell_where(run)
    write_jsonl(run.folder / TASKS, lines)
    print(f"tasks: {len(tasks)}")


def _write_rows(run: Run) -> None:
    context = StageContext(run)
    start = starting_point(context)
    rows = sft_rows(context, context.adopt(load_tokenizer(start), start), sft_examples(run))
    _keep(run, rows, sft_summary(rows))


def _write_samples(run: Run) -> None:
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, RftConfig)
    samples = asyncio.run(draw_samples(context, make_policy_factory(context)))
    kept = kept_samples(samples, stage, run.config.reward)
    _keep(run, rft_rows(kept), rft_summary(samples, kept))


def _play_evaluation(run: Run) -> None:
    asyncio.run(evaluate(run))


def _play_demos(run: Run) -> None:
    asyncio.run(demos(run))


PARTS = {
    "tasks": _write_tasks,
    "rows": _write_rows,
    "samples": _write_samples,
    "evaluate": _play_evaluation,
    "demos": _play_demos,
}


def _keep(run: Run, rows: Sequence[Row], summary: dict[str, int]) -> None:
    """Write the rows last: they mark this part as done."""
    _tell_where(run)
    write_json(run.folder / SUMMARY, summary)
    write_jsonl(run.folder / ROWS, map(encode, rows))
    print(f"rows: {len(rows)}, {sum(len(row.ids) for row in rows)} tokens")


def _tell_where(run: Run) -> None:
    """Write the one key that slime passes on to our hooks; JSON is YAML."""
    path = run.folder / SETTINGS
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"tau2_exp_run": str(run.folder.absolute())})
