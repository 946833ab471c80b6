"""τ²-bench's own results files of one agent as a finished evaluation. What the files lack is shown as unknown."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import Config, ConfigError, EvalConfig, UserConfig, UserKind
from tau2_exp.domains import SetupError
from tau2_exp.evaluation.finished import write_evaluation
from tau2_exp.evaluation.plan import GREEDY, Place, Plan, score_of_nothing
from tau2_exp.evaluation.records import UNKNOWN, Speaker
from tau2_exp.evaluation.results_file import VARIANTS, ResultsFile, read_results
from tau2_exp.evaluation.results_format import is_solo
from tau2_exp.evaluation.scores import AGENT
from tau2_exp.evaluation.sources import Source
from tau2_exp.runs.address import merged_address
from tau2_exp.runs.run import Run
from tau2_exp.types import SOLO, Trajectory

_SAMPLING = ("temperature", "top_p", "top_k")
_USERS = {"user_simulator": UserKind.litellm.value, "dummy_user": SOLO}  # τ²-bench's names for them
_SOLO_AGENT = "llm_agent_solo"


def register(commands: argparse._SubParsersAction) -> None:
    """Add `import` to a parser's subcommands."""
    command = commands.add_parser("import", help="read τ²-bench results files of one agent as an evaluation")
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="one per domain and split, greedy ones too"
    )
    command.add_argument("--name", required=True, help="name of the new run folder")
    command.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the run folder is created")
    command.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    run = import_files(arguments.files, arguments.outputs / arguments.name)
    print(run.table)
    print(f"finished: {run.folder}")
    return 0


@dataclasses.dataclass(frozen=True)
class _Part:
    """A results file, and the file of trajectories that it becomes."""

    file: ResultsFile
    greedy: bool = False  # of temperature 0, beside others with samples

    @property
    def split(self) -> str:
        """The split that its tasks are; else the smallest that holds them all; else base."""
        splits = self.file.domain.splits
        holding = {name: len(ids) for name, ids in splits.items() if set(self.file.tasks) <= set(ids)}
        return min(holding, key=lambda name: holding[name], default="base")

    @property
    def name(self) -> str:
        return self.split + GREEDY * self.greedy

    @property
    def solo(self) -> bool:
        """Whether the agent worked alone: so the file says, or else no user says a word in it."""
        info = self.file.info
        if info.user_info.implementation == UNKNOWN:
            return all(is_solo(t.messages) for t in self.file.trajectories)
        return _kind_of_user(info.user_info) == SOLO or info.agent_info.implementation == _SOLO_AGENT

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        told = self.file.trajectories
        return tuple(dataclasses.replace(t, user=SOLO) for t in told) if self.solo else told


def import_files(paths: Sequence[Path], folder: Path) -> Run:
    """A finished evaluation from results files of one agent and one user. Raises ConfigError naming what is wrong."""
    if folder.exists():
        raise ConfigError(f"name={folder.name}: {folder} already exists; use another name or remove it")
    parts = _parts([read_results(path) for path in paths])
    _check_alike(parts)
    first = parts[0]
    config, plan = _config(parts), _plan(parts)
    played = {name: [t for part in parts if part.name == name for t in part.trajectories] for name in plan.files}
    agent = _agent(first.file)
    return write_evaluation(
        folder,
        config,
        merged_address(sorted(part.file.digest for part in parts)),
        plan,
        played,
        label="imported",
        provider=f"τ²-bench's own results ({plan.revision})",
        facts={
            "policy": agent.get("llm") or agent["implementation"],
            "temperature": first.file.info.agent_info.argument("temperature"),
            AGENT: agent,
        },
        sources=[Source(part.file.domain.name, part.name, part.file.data) for part in parts],
    )


def _parts(files: Sequence[ResultsFile]) -> list[_Part]:
    """Files with samples, then those of temperature 0: beside samples they are greedy, alone they are samples."""
    sampled = [_Part(file) for file in files if file.info.agent_info.argument("temperature") != 0]
    if not sampled:
        return [_Part(file) for file in files]
    return [*sampled, *(_Part(f, greedy=True) for f in files if f.info.agent_info.argument("temperature") == 0)]


def _check_alike(parts: Sequence[_Part]) -> None:
    """Raises ConfigError where two files are not of one agent, one user, one revision and the same limits."""
    first, temperature = parts[0], parts[0].file.info.agent_info.argument("temperature")
    facts = _facts(first, temperature)
    for part in parts[1:]:
        for key, value in _facts(part, temperature).items():
            if value != facts[key]:
                raise ConfigError(f"{part.file.path}: {key} is not that of {first.file.path}; import them one by one")
        if part.file.revision != first.file.revision:
            theirs = f"those of {first.file.path} of {first.file.revision}"
            raise ConfigError(f"{part.file.path}: tasks are of {part.file.revision}, {theirs}")


def _facts(part: _Part, temperature: float | None) -> dict[str, Any]:
    """What all files have in common: greedy ones have the agent of samples at `temperature`."""
    info = part.file.info
    arguments = {**(info.agent_info.llm_args or {}), **({"temperature": temperature} if part.greedy else {})}
    return {
        "agent_info": (info.agent_info.implementation, info.agent_info.llm, _told(arguments)),
        "user_info": (info.user_info.implementation, info.user_info.llm, _told(info.user_info.llm_args or {})),
        "max_steps": info.max_steps,
        "max_errors": info.max_errors,
        "the agent's policy": _variant(part.file),
    }


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _agent(file: ResultsFile) -> dict[str, Any]:
    """Who was evaluated, as far as it is told; how it was sampled is no part of that."""
    agent = file.info.agent_info
    arguments = {key: value for key, value in (agent.llm_args or {}).items() if key not in _SAMPLING}
    told = {"implementation": agent.implementation, "llm": agent.llm, "llm_args": _told(arguments)}
    return {**told, "policy": _variant(file) or "the domain's own"}


def _variant(file: ResultsFile) -> str | None:
    """The domain's name where it is one with another policy for the agent."""
    name = file.info.environment_info.domain_name
    return name if name in VARIANTS else None


def _kind_of_user(user: Speaker) -> str:
    return _USERS.get(user.implementation, user.implementation)


def _config(parts: Sequence[_Part]) -> Config:
    """Settings that say the same; what the files do not tell stays at its default, and is None in plan and results."""
    info = parts[0].file.info
    agent = info.agent_info
    base = compose_config(["stage=eval", "user=litellm", "policy=litellm", "policy.model=unknown"])
    assert isinstance(base.stage, EvalConfig)
    stage = dataclasses.replace(
        base.stage,
        temperature=float(_or(agent.argument("temperature"), base.stage.temperature)),
        top_p=float(_or(agent.argument("top_p"), base.stage.top_p)),
        top_k=int(_or(agent.argument("top_k"), base.stage.top_k)),
        samples_per_prompt=max(len(part.file.trials) for part in parts),
        greedy=any(part.greedy for part in parts),
    )
    domain = dataclasses.replace(
        base.domain,
        names=_distinct(part.file.domain.name for part in parts),
        eval_splits=_distinct(part.split for part in parts),
        **_told({"max_steps": info.max_steps, "max_errors": info.max_errors}),
    )
    return dataclasses.replace(
        base,
        stage=stage,
        domain=domain,
        user=_user(base.user, info.user_info),
        policy=dataclasses.replace(base.policy, model=agent.llm or agent.implementation),
        seed=info.seed or 0,
    )


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _user(base: UserConfig, user: Speaker) -> UserConfig:
    if user.implementation == UserKind.scripted.value:
        return dataclasses.replace(base, kind=UserKind.scripted)
    temperature = float(_or(user.argument("temperature"), base.temperature))
    return dataclasses.replace(base, model=user.llm, temperature=temperature)


def _or(told: float | None, default: float) -> float:
    return default if told is None else told


def _plan(parts: Sequence[_Part]) -> Plan:
    planned: dict[str, list[Place]] = {}
    holders: dict[tuple[str, str, int], Path] = {}
    for part in parts:
        for place in _places(part.file):
            trial = (part.name, place.task, place.sample)
            if trial in holders:
                whose = f"{place.task}, trial {place.sample} is of {holders[trial]} too"
                raise ConfigError(f"{part.file.path}: {whose}; give every trial once")
            holders[trial] = part.file.path
            planned.setdefault(part.name, []).append(place)
    info = parts[0].file.info
    return Plan(
        revision=parts[0].file.revision,
        user={"kind": SOLO} if parts[0].solo else _user_facts(info.user_info),
        limits={"max_steps": info.max_steps, "max_errors": info.max_errors},
        nothing=dict(fact for part in parts for fact in _scores_of_nothing(part.file)),
        files={name: tuple(places) for name, places in planned.items()},
        others={key: digest for part in parts for key, digest in part.file.others.items()},
    )


def _user_facts(user: Speaker) -> dict[str, Any]:
    kind = _kind_of_user(user)
    if kind == UserKind.scripted.value:
        return {"kind": kind}
    return {"kind": kind, "model": user.llm, "temperature": user.argument("temperature")}


def _scores_of_nothing(file: ResultsFile) -> Iterator[tuple[str, float | None]]:
    """By task; None for one that cannot be set up here, since it is of another revision."""
    for task in file.tasks.values():
        try:
            yield task.key, score_of_nothing(file.domain.world(task))
        except SetupError:
            yield task.key, None


def _places(file: ResultsFile) -> list[Place]:
    """Every trial of every task, also where it has no simulation."""
    seeds = {(t.key, t.sample): t.seed for t in file.trajectories}
    of_trial = {t.sample: t.seed for t in file.trajectories}  # τ²-bench itself has one seed a trial
    return [
        Place(task.key, trial, seeds.get((task.key, trial), of_trial.get(trial)))
        for task in file.tasks.values()
        for trial in file.trials
    ]
