"""How sweeps and chains become arrays of jobs, and what waits for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tau2_exp.compose.composition import chain_settings, compose_config
from tau2_exp.config import Config
from tau2_exp.dispatch.freeze import freeze
from tau2_exp.dispatch.plan import Planner
from tau2_exp.dispatch.slurm.arrays import Array, make_arrays, waves
from tau2_exp.dispatch.step import Step

Change = Callable[[Config], Config]


def seed(number: int) -> Change:
    return lambda config: replace(config, seed=number)


def alpha(value: float) -> Change:
    return lambda config: replace(config, reward=replace(config.reward, alpha=value))


def targets(outputs: Path, common: Sequence[str], *swept: Sequence[Change]) -> list[Step]:
    planner, given = Planner(outputs), [f"outputs={outputs}", *common]
    base, steps = compose_config(given), []
    for chosen in product(*swept):
        config = base
        for change in chosen:
            config = change(config)
        steps.append(planner.plan(config, lambda: chain_settings(given)))
    for step in steps:
        freeze(step, [])
    return steps


def shape(arrays: Sequence[Array]) -> list[str]:
    """`rft×4 ~sft` follows the sft array element by element; `grpo×2 <rft` needs a run of rft as a whole."""
    return [
        " ".join(
            [f"{array.steps[0].stage}×{len(array.steps)}"]
            + [f"~{other.steps[0].stage}" for other in array.follows]
            + [f"<{need.stage}" for need in array.needs]
        )
        for array in arrays
    ]


def check_order(arrays: Sequence[Array]) -> None:
    """Every need of every element is waited for, and is submitted before."""
    sent: set[str] = set()
    for array in arrays:
        for i, step in enumerate(array.steps):
            waits = {need.address for need in array.needs} | {other.steps[i].address for other in array.follows}
            assert waits == {need.address for need in step.needs if not need.finished}
            assert waits <= sent
        sent |= {step.address for step in array.steps}


SEEDS = [seed(number) for number in range(4)]
ALPHAS = [alpha(0.0), alpha(0.5)]


@pytest.mark.parametrize(
    ("common", "swept", "expected"),
    [
        (["stage=grpo"], [], ["demos×1", "sft×1 <demos", "rft×1 <sft", "grpo×1 <rft"]),
        (["stage=rft"], [SEEDS], ["demos×4", "sft×4 ~demos", "rft×4 ~sft"]),
        (["stage=grpo"], [ALPHAS], ["demos×1", "sft×1 <demos", "rft×1 <sft", "grpo×2 <rft"]),
        (
            ["stage=grpo"],
            [SEEDS, ALPHAS],
            ["demos×4", "sft×4 ~demos", "rft×4 ~sft", *["grpo×2 <rft"] * 4],
        ),
        (
            ["stage.stages=[demos,sft]"],
            [SEEDS],
            ["demos×4", "sft×4 ~demos", "eval×4 ~sft", "pipeline×4 ~demos ~sft ~eval"],
        ),
    ],
    ids=["chain", "chains", "shared", "partly shared", "pipelines"],
)
def test_one_array_a_stage_where_needs_allow_it(
    tmp_path: Path, common: list[str], swept: list[list[Change]], expected: list[str]
) -> None:
    arrays = make_arrays(targets(tmp_path, common, *swept), 1000)
    assert shape(arrays) == expected
    check_order(arrays)


def test_an_array_is_split_where_it_is_too_long(tmp_path: Path) -> None:
    arrays = make_arrays(targets(tmp_path, ["stage=sft"], [seed(number) for number in range(5)]), 2)
    assert shape(arrays) == ["demos×2", "demos×2", "demos×1", "sft×2 ~demos", "sft×2 ~demos", "sft×1 <demos"]
    check_order(arrays)


def test_only_what_is_left_is_submitted(tmp_path: Path) -> None:
    sweep = targets(tmp_path, ["stage=rft"], SEEDS)
    for step in list(sweep[0].lineage())[:2] + list(sweep[2].lineage())[:1]:
        assert step.run is not None
        step.run.finish({})
    arrays = make_arrays(sweep, 1000)
    check_order(arrays)
    assert sum(len(array.steps) for array in arrays) == 9


def test_what_is_in_the_queue_is_waited_for_and_not_submitted_again(tmp_path: Path) -> None:
    sweep = targets(tmp_path, ["stage=grpo"], ALPHAS)
    queued = {step.address for step in sweep[0].lineage() if step.stage != "grpo"}
    assert shape(make_arrays(sweep, 1000, queued)) == ["grpo×2 <rft"]


def test_a_bound_on_what_runs_at_once_holds_over_all_arrays(tmp_path: Path) -> None:
    arrays = make_arrays(targets(tmp_path, ["stage=grpo"], SEEDS, ALPHAS), 1000)
    assert [len(wave) for wave in waves(arrays, None)] == [len(arrays)]
    for at_once in (1, 4, 8, 100):
        cut = waves(arrays, at_once)
        assert [array for wave in cut for array in wave] == arrays
        assert all(len(wave) == 1 or sum(len(array.steps) for array in wave) <= at_once for wave in cut)
    assert [[len(array.steps) for array in wave] for wave in waves(arrays, 4)] == [[4], [4], [4], [2, 2], [2, 2]]
