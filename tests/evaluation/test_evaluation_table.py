"""One table for splits that were sampled differently: nothing is left out, and a cell says what it depends on."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from dialogues import make_trajectory

from tau2_exp.evaluation.plan import Place, Plan
from tau2_exp.evaluation.scores import split_results
from tau2_exp.evaluation.table import evaluation_table

SAMPLES = {"telecom": 4, "retail": 2}  # of each task; telecom was played greedily too


def merged() -> dict[str, Any]:
    keys = {f"{domain}/{i}": count for domain, count in SAMPLES.items() for i in range(2 if count == 4 else 3)}
    files = {
        "test-greedy": tuple(Place(key, 0, 0) for key in keys if key.startswith("telecom")),
        "test": tuple(Place(key, sample, 0) for key, count in keys.items() for sample in range(count)),
    }
    plan = Plan("tau2-bench@1234567", {}, {}, dict.fromkeys(keys, 0.0), files)
    played = {
        name: [
            dataclasses.replace(
                make_trajectory(domain=p.task.partition("/")[0], task=p.task.partition("/")[2], reward=p.sample % 2),
                sample=p.sample,
            )
            for p in places
        ]
        for name, places in files.items()
    }
    facts = {"provider": "a provider of tasks", "user": "scripted", "temperature": 0.8}
    return {**facts, "splits": split_results(plan, played)}


def test_columns_are_of_all_splits_and_a_cell_of_other_tasks_says_so() -> None:
    title, _, head, _, *rows = evaluation_table([("merged", merged())]).splitlines()
    assert title == "tasks: a provider of tasks; user: scripted; temperature 0.8"
    columns = ["greedy pass@1", "pass@1", "pass@2", "pass^2", "pass@4", "pass^4"]
    assert re.split(r"\s{2,}", head.strip()) == ["stage", "split", "tasks", *columns]
    shown = [re.split(r"\s{2,}", row.strip()) for row in rows if row.strip().startswith("merged")]
    whole, telecom, retail = shown
    assert whole[1:3] == ["test", "5"] and whole[3].endswith("] (2 tasks)") and len(whole) == 7
    assert telecom[1:3] == ["telecom test", "2"] and len(telecom) == 7 and "tasks)" not in " ".join(telecom)
    assert telecom[-2].startswith("1.00 [") and telecom[-1].startswith("0.00 [")
    assert retail[1:3] == ["retail test", "3"] and len(retail) == 6
