"""Studies as they lie on disk: runs of every stage, made without training. How well each model does is drawn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from recorded import episode

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Config, GrpoConfig
from tau2_exp.evaluation.plan import Place, Plan, limit_facts, user_facts
from tau2_exp.evaluation.scores import split_results
from tau2_exp.runs.address import content_address
from tau2_exp.runs.run import Run
from tau2_exp.types import Trajectory

PROVIDER = "inspect-evals 0.26.0 (tau2-bench@337326e)"
Settings = dict[str, Any]  # kind, alpha, samples: of an arm


@cache
def _composed(stage: str) -> Config:
    return compose_config([f"stage={stage}"])


def config(stage: str, seed: int = 0) -> Config:
    return replace(copy.deepcopy(_composed(stage)), seed=seed)


class Study:
    """An outputs folder in the making."""

    def __init__(self, outputs: Path, tasks: int = 12, samples: int = 4, splits: Sequence[str] = ("test",)) -> None:
        self.outputs, self.samples, self.splits = outputs, samples, splits
        self.tasks = [f"fault{i}" for i in range(tasks)]
        self.difficulty = np.linspace(-0.25, 0.25, tasks)
        self._chance: dict[str, float] = {}
        self._evaluated: list[Run] = []

    def train(self, stage: str, seed: int, parent: Run | None, chance: float, **arm: Any) -> Run:
        """A finished training run, whose model solves a task of middling difficulty with `chance`."""
        settings = config(stage, seed)
        settings.reward.kind = arm.get("kind", settings.reward.kind)
        settings.reward.alpha = arm.get("alpha", settings.reward.alpha)
        settings.model.max_new_tokens = arm.get("length", settings.model.max_new_tokens)
        if isinstance(settings.stage, GrpoConfig):
            settings.stage.samples_per_prompt = arm.get("samples", settings.stage.samples_per_prompt)
        run = self._create(settings, parent)
        for step in range(1, 9):
            curve = {"outcome": chance * step / 8, "shaped": chance * step / 8 + 0.1, "part/action": 0.5}
            run.log(
                {"loss": 1 / step} if stage == "sft" else curve | {"partial": 0.5, "episodes": 4, "loss": 0.0}, step
            )
        run.finish({"steps": 8, "model": "checkpoints/last", "episodes": 32, "faults": 0})
        self._chance[run.manifest.address] = chance
        return run

    def evaluate(self, parent: Run, finish: bool = True, lost: int = 0, **changes: Any) -> Run:
        """The evaluation of a run's model; `lost` episodes end in a fault of the user."""
        settings = config("eval", parent.config.seed)
        for name, value in changes.items():
            section = {"temperature": settings.user, "max_new_tokens": settings.model}.get(name, settings.domain)
            setattr(section, name, value)
        run = self._create(settings, parent)
        run.record(provider=PROVIDER)
        rng = np.random.default_rng(len(self._evaluated))  # addresses change with every new setting
        self._evaluated.append(run)
        chances = self._chance[parent.manifest.address] + self.difficulty
        played = {s: self._play(rng, np.clip(chances, 0, 1), self.samples, lost) for s in self.splits}
        played |= {f"{s}-greedy": self._play(rng, np.round(chances), 1, 0) for s in self.splits}
        plan = self._plan(settings)
        plan.freeze(run.folder)
        for name, trajectories in played.items():
            with run.write_trajectories(name) as lines:
                for trajectory in trajectories if finish else trajectories[:5]:
                    lines.write(trajectory)
        if finish:
            results = {"policy": "tiny", "user": "scripted", "provider": PROVIDER, "temperature": 0.8}
            run.finish(results | {"plan": plan.digest, "splits": split_results(plan, played)})
        return run

    def _create(self, settings: Config, parent: Run | None) -> Run:
        address = content_address(settings, parent.manifest.address if parent else None)
        return Run.create(settings, address, self.outputs / f"{settings.stage.name}-{address[:12]}", parent)

    def _play(self, rng: np.random.Generator, chances: Any, samples: int, lost: int) -> list[Trajectory]:
        found = [
            episode(task, sample, [0.0, 1.0], float(rng.random() < chance))
            for task, chance in zip(self.tasks, chances, strict=True)
            for sample in range(samples)
        ]
        return [episode(t.task, t.sample, [0.0], fault=True) for t in found[:lost]] + found[lost:]

    def _plan(self, settings: Config) -> Plan:
        keys = [f"telecom/{task}" for task in self.tasks]
        files = {s: tuple(Place(k, i, 0) for k in keys for i in range(self.samples)) for s in self.splits}
        files |= {f"{s}-greedy": tuple(Place(k, 0, 0) for k in keys) for s in self.splits}
        nothing = dict.fromkeys(keys, 0.0)
        return Plan("tau2-bench@337326e", user_facts(settings.user), limit_facts(settings), nothing, files)


def make_study(
    outputs: Path, arms: Sequence[Settings], chance: Callable[[Settings, int], float], seeds: int = 2, **study: Any
) -> Study:
    """SFT of each seed, GRPO of each arm and seed from it, and an evaluation of each model."""
    made = Study(outputs, **study)
    for seed in range(seeds):
        sft = made.train("sft", seed, None, 0.4)
        made.evaluate(sft)
        for arm in arms:
            made.evaluate(made.train("grpo", seed, sft, chance(arm, seed), **arm))
    return made
