"""Trials and subjects: which evaluations are comparable, and whose they are.

A *trial* is one set of tasks run under one plan: same user, samples, temperature, limits, provider and revision.
Only scores of one trial are compared. A *subject* is what was evaluated: a stage's model of one arm, all its seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tau2_exp.config import to_data
from tau2_exp.evaluation.plan import limit_facts, read_plan, user_facts
from tau2_exp.evaluation.scores import AGENT
from tau2_exp.evaluation.table import number
from tau2_exp.report.arms import Values, flatten, lineage, sources
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.statistics import Estimate, Measure, estimate

Key = tuple[str, int, str]  # the model's seed, the evaluation's own, and where that is not told, its address
Outcomes = dict[str, list[float]]  # task → the outcome of each scored sample
GREEDY = "greedy pass@1"


@dataclass(frozen=True)
class Found:
    """A run, and the stage, arm and seed that the report lists it under."""

    run: Run
    stage: str  # for an evaluation: the stage of its model, or the policy's name
    arm: str
    values: Values
    seed: str


@dataclass(frozen=True)
class Missing:
    """In place of an estimate where an evaluation is incomplete: how many samples are missing, and of which seeds."""

    samples: int
    seeds: tuple[str, ...]


Measured = Estimate | Missing


@dataclass(frozen=True)
class Evaluation:
    """One run's results in a trial; `name` is their key among the run's results."""

    run: Run
    name: str
    result: dict[str, Any]

    @property
    def scored(self) -> int:
        """How many sampled episodes have a score."""
        return sum(map(len, self.result["outcomes"].values()))


@dataclass
class Subject:
    """What was evaluated, and its results."""

    stage: str  # of its model; or the policy's name, where no model of ours was evaluated
    arm: str
    values: Values
    depth: int  # how many runs its model depends on: subjects are shown in the order they are made
    parent: tuple[str, str] | None = None  # (stage, arm) of what its model was made from
    evaluations: dict[Key, Evaluation] = field(default_factory=dict)
    _known: dict[str, Measured | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def seeds(self) -> list[str]:
        """The seeds of its models, in the order of their numbers."""
        return list(dict.fromkeys(seed for (seed, *_), _ in self._in_order()))

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """By seed and task, the outcome of each scored sample. Several evaluations of a model are more samples."""
        return self._by_seed("outcomes")

    @property
    def greedy(self) -> dict[str, Outcomes]:
        """By seed and task, the outcome of the scored greedy sample."""
        return self._by_seed("greedy_outcomes")

    @property
    def label(self) -> str:
        """The stage and the arm, by which the report names the subject."""
        return f"{self.stage} {self.arm}".rstrip()

    def measured(self, name: str) -> Measured | None:
        """The estimate of `pass@4` and the like, or of GREEDY; None where there are no such samples.

        Cached: call it only once all evaluations are there.
        """
        if name not in self._known:
            self._known[name] = self._measure(name)
        return self._known[name]

    def _measure(self, name: str) -> Measured | None:
        if name == GREEDY:
            greedy = self.greedy
            return _measured(greedy, Measure.PASS_AT, 1, dict.fromkeys(greedy, 1)) if greedy else None
        measure = next(m for m in Measure if name.startswith(m.value))
        wanted, lost = dict.fromkeys(self.seeds, 0), dict.fromkeys(self.seeds, 0)
        for (seed, *_), evaluation in self._in_order():
            wanted[seed] += evaluation.result["samples_per_prompt"]
            lost[seed] += evaluation.result["measures"].get(name, {}).get("missing", 0)
        if any(lost.values()):  # also of a task that a merge gave more samples than another
            return Missing(sum(lost.values()), tuple(seed for seed, count in lost.items() if count))
        return _measured(self.outcomes, measure, int(name.removeprefix(measure.value)), wanted)

    def _in_order(self) -> list[tuple[Key, Evaluation]]:
        """By seed, whatever order the folders were found in: what is resampled must not depend on it."""
        return sorted(self.evaluations.items(), key=lambda item: (len(item[0][0]), item[0]))

    def _by_seed(self, kind: str) -> dict[str, Outcomes]:
        found: dict[str, Outcomes] = {}
        for (seed, *_), evaluation in self._in_order():
            if evaluation.result[kind] or kind == "outcomes":  # no greedy samples were planned, or all were lost
                tasks = found.setdefault(seed, {})
                for task, outcomes in evaluation.result[kind].items():
                    tasks[task] = [*tasks.get(task, []), *outcomes]
        return found


@dataclass
class Trial:
    """One set of tasks under one plan, and all subjects that were evaluated on it."""

    domain: str
    split: str
    tasks: tuple[str, ...]
    plan: dict[str, Any]
    nothing: Estimate | None  # of doing nothing; None where that cannot be judged
    note: str = ""  # how its plan differs from others on the same split
    subjects: list[Subject] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # evaluations that another one stands for

    @property
    def samples(self) -> int:
        """How many samples of each task the plan has, the greedy one aside; 0 where it is greedy only."""
        return int(self.plan["stage.samples_per_prompt"])

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures of this trial: greedy pass@1, pass@1, and those of all samples."""
        several = tuple(f"{m.value}{self.samples}" for m in Measure) if self.samples > 1 else ()
        greedy = (GREEDY,) if any(subject.greedy for subject in self.subjects) else ()
        return (*greedy, *(("pass@1",) if self.samples else ()), *several)

    @property
    def name(self) -> str:
        """The domain and the split, with the note where there is one."""
        return f"{self.domain} {self.split}" + (f" ({self.note})" if self.note else "")

    @property
    def title(self) -> str:
        """The name, with the plan: tasks, samples, temperature, user and provider."""
        plan = self.plan
        return (
            f"{self.name}: {len(self.tasks)} tasks × {self.samples} samples, temperature "
            f"{number(plan['stage.temperature'])}; user: {plan['user']}; tasks: {plan['provider']}"
        )


def find_trials(found: Sequence[Found], gone: Sequence[Found] = ()) -> list[Trial]:
    """All trials of finished evaluations. The parts of a finished merge are left out, since the merge holds them.

    `gone` are the runs that these depend on and whose folders are gone.
    """
    trials: dict[Any, Trial] = {}
    parts = {part for f in found if f.run.status is RunStatus.finished for part in _parts(f.run)}
    by_address = {f.run.manifest.address: f for f in (*found, *gone)}
    for f in found:
        if f.run.stage != "eval" or f.run.status is not RunStatus.finished or f.run.folder.resolve() in parts:
            continue
        results = f.run.results
        settings = _plan(f.run, results)
        untold = f.run.manifest.address if AGENT in results and not _tells_seeds(f.run) else ""
        for name, result in results["splits"].items():
            # of a merged run, a split may have fewer samples than another
            plan = settings | {"stage.samples_per_prompt": result["samples_per_prompt"]}
            if AGENT in results and (other := _other_tasks(f.run, result)):
                plan |= {"other tasks": other}
            domain, split = _domain_and_split(f.run, name)
            tasks = _tasks(result)
            key = (domain, split, tasks, tuple(sorted((k, str(v)) for k, v in plan.items())))
            trial = trials.setdefault(key, Trial(domain, split, tasks, plan, _nothing(result)))
            _add(trial, f, Evaluation(f.run, name, result), by_address, untold)
    for trial in trials.values():
        trial.subjects.sort(key=lambda subject: (subject.depth, [_sortable(v) for v in subject.values.values()]))
    _note_differences(list(trials.values()))
    return sorted(trials.values(), key=lambda t: (t.domain, _split_order(t.split), t.note))


def _parts(run: Run) -> list[Path]:
    """The folders that an evaluation was merged from; they need not be there any more."""
    return [(run.folder / member).resolve() for member in run.manifest.members] if run.stage == "eval" else []


def _add(trial: Trial, found: Found, evaluation: Evaluation, by_address: dict[str, Found], untold: str) -> None:
    """Evaluations of one agent with one seed of their own are the same episodes: the fuller one counts.

    `untold` is the evaluation's address where its seeds are not known, so that it is the same as no other.
    """
    subject = next((s for s in trial.subjects if (s.stage, s.arm) == (found.stage, found.arm)), None)
    if subject is None:
        maker = found.run.parent.parent if found.run.parent else None
        parent = by_address.get(maker.manifest.address) if maker else None
        above = (parent.stage, parent.arm) if parent else None
        subject = Subject(found.stage, found.arm, found.values, len(lineage(found.run)), above)
        trial.subjects.append(subject)
    key = (found.seed, found.run.config.seed, untold)
    known = subject.evaluations.setdefault(key, evaluation)
    if known is not evaluation:
        less, more = sorted((known, evaluation), key=lambda e: (e.scored, e is known))
        subject.evaluations[key] = more
        same = f"agent, user and seed as {more.run.folder}, which has as many scored episodes or more"
        trial.left_out.append(f"left out: {less.run.folder}: has the same {same}")


def _tells_seeds(run: Run) -> bool:
    """Whether all seeds of an imported evaluation's episodes are known."""
    return all(place.seed is not None for places in read_plan(run.folder).files.values() for place in places)


def _nothing(result: dict[str, Any]) -> Estimate | None:
    return Estimate(**result["nothing"]) if result["nothing"]["value"] is not None else None


def _plan(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """All settings that an evaluation's scores depend on, beside the policy and the tasks."""
    config = run.config
    user, limits, revision = user_facts(config.user), limit_facts(config), run.manifest.revision
    if AGENT in results:  # played elsewhere: what files do not tell is None, and what they have no place for is as here
        plan = read_plan(run.folder)
        user, limits, revision = user | plan.user, limits | plan.limits, plan.revision
    stage = dict(flatten(to_data(config)["stage"])) | {"temperature": results["temperature"]}
    kept = {f"stage.{key}": value for key, value in stage.items() if key not in ("name", "greedy")}
    kept |= {f"user.{key}": value for key, value in user.items()} | limits
    kept |= {key: value for key, value in sources(run).items() if key.startswith("user.")}
    kept |= {"user.serve": config.user.serve, "domain.document": config.domain.document.value}
    return kept | {"user": results["user"], "provider": results["provider"], "revision": revision}


def _other_tasks(run: Run, result: dict[str, Any]) -> str:
    """A digest of the tasks that an imported evaluation had in place of ours; empty where it had none."""
    others = read_plan(run.folder).others
    digests = [others[task] for task in _tasks(result) if task in others]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:8] if digests else ""


def _tasks(result: dict[str, Any]) -> tuple[str, ...]:
    """The tasks of a split's results, which may be greedy samples alone."""
    return tuple(sorted(result["outcomes"] or result["greedy_outcomes"]))


def _domain_and_split(run: Run, name: str) -> tuple[str, str]:
    """Results over several domains are named by the split, those of one of them `retail test`."""
    domain, _, split = name.rpartition(" ")
    return (domain, split) if domain else ("+".join(run.config.domain.names), name)


def _note_differences(trials: Sequence[Trial]) -> None:
    """Where a split was run under several plans, or with other tasks, note the difference in each trial."""
    for where in {(t.domain, t.split) for t in trials}:
        alike = [t for t in trials if (t.domain, t.split) == where]
        keys = [k for k in alike[0].plan if len({str(t.plan.get(k)) for t in alike}) > 1]
        counts = {len(t.tasks) for t in alike}
        for place, trial in enumerate(alike, 1):
            parts = [f"{key.removeprefix('stage.')}={trial.plan.get(key)}" for key in keys]
            if len({t.tasks for t in alike}) > 1:
                parts.append(f"{len(trial.tasks)} tasks" if len(counts) > 1 else f"task set {place}")
            trial.note = ", ".join(parts)


def _sortable(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return not number, float(value) if number else 0.0, str(value)


def _split_order(split: str) -> tuple[int, str]:
    known = ("train", "development", "test")
    return (known.index(split) if split in known else len(known)), split


def _measured(by_seed: dict[str, Outcomes], measure: Measure, k: int, wanted: dict[str, int]) -> Measured:
    missing = {
        seed: sum(max(wanted[seed] - len(outcomes), 0) for outcomes in tasks.values())
        for seed, tasks in by_seed.items()
    }
    if any(missing.values()) or not by_seed:
        return Missing(sum(missing.values()), tuple(seed for seed, count in missing.items() if count))
    return estimate(list(by_seed.values()), measure, k)
