"""Evaluations to and from τ²-bench's own results files: one file for each domain and file of trajectories."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tau2_exp.compose.composition import compose_config
from tau2_exp.config import TASK_REVISION, Config, ConfigError, EvalConfig, PolicyKind, UserConfig, UserKind
from tau2_exp.domains import Domain, ProviderError, load_domain
from tau2_exp.domains.tasks import read_tasks
from tau2_exp.evaluation.plan import GREEDY, Place, Plan, read_plan, score_of_nothing, user_facts
from tau2_exp.evaluation.results_format import from_simulation, to_simulation
from tau2_exp.evaluation.scores import evaluation_results, policy_name
from tau2_exp.evaluation.table import evaluation_table
from tau2_exp.jsonl import write_json
from tau2_exp.runs.address import merged_address
from tau2_exp.runs.run import Run
from tau2_exp.types import Role, Task, Trajectory


def register(commands: argparse._SubParsersAction) -> None:
    """Add `export` and `import` to a parser's subcommands."""
    command = commands.add_parser("export", help="write an evaluation in τ²-bench's results format")
    command.add_argument("folder", type=Path, metavar="RUN", help="a run's folder")
    command.add_argument("--to", type=Path, required=True, metavar="PATH", help="a folder, or FILE.json for one file")
    command.set_defaults(run=_export)
    command = commands.add_parser("import", help="read τ²-bench results files of one agent as an evaluation")
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="one per domain and split, and those of greedy episodes"
    )
    command.add_argument("--name", required=True, help="name of the new run folder")
    command.add_argument("--outputs", type=Path, default=Path("outputs"), help="where the run folder is created")
    command.set_defaults(run=_import)


# ---------------------------------------------------------------- out


def _export(arguments: argparse.Namespace) -> int:
    files = export_run(Run.open(arguments.folder))
    target: Path = arguments.to
    if target.suffix == ".json" and len(files) > 1:
        raise ConfigError(f"--to {target}: the run makes {len(files)} files ({', '.join(files)}); name a folder")
    for name, (results, lost) in files.items():
        path = target if target.suffix == ".json" else target / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
        left = f"; {lost} ended in a fault and were left out" if lost else ""
        print(f"{path}: {len(results['tasks'])} tasks, {len(results['simulations'])} simulations{left}")
    return 0


def export_run(run: Run) -> dict[str, tuple[dict[str, Any], int]]:
    """τ²-bench's results by "domain_file" ("retail_test-greedy"), each with the episodes that a fault left without."""
    plan, stage = read_plan(run.folder), run.config.stage
    assert isinstance(stage, EvalConfig)
    files: dict[str, tuple[dict[str, Any], int]] = {}
    for name in plan.files:
        played = list(run.read_trajectories(name))
        temperature = 0.0 if name.endswith(GREEDY) else stage.temperature
        for domain in dict.fromkeys(t.domain for t in played):
            own = [t for t in played if t.domain == domain]
            scored = [t for t in own if t.scored]
            files[f"{domain}_{name}"] = _results(run, load_domain(domain), scored, temperature), len(own) - len(scored)
    return files


def _results(run: Run, domain: Domain, trajectories: Sequence[Trajectory], temperature: float) -> dict[str, Any]:
    created = datetime.fromisoformat(run.manifest.created)
    tasks = {t.task: domain.record(t.task) for t in trajectories}
    return {
        "timestamp": run.manifest.created,
        "info": _info(run.config, domain, 1 + max((t.sample for t in trajectories), default=0), temperature),
        "tasks": list(tasks.values()),
        "simulations": [
            to_simulation(t, tasks[t.task], created.isoformat(), (created + timedelta(seconds=t.seconds)).isoformat())
            for t in trajectories
        ],
    }


def _info(config: Config, domain: Domain, trials: int, temperature: float) -> dict[str, Any]:
    user, stage = config.user, config.stage
    assert isinstance(stage, EvalConfig)
    simulated, asked = user.kind is UserKind.litellm, config.policy.kind is PolicyKind.litellm
    sampling = {"temperature": temperature, "top_p": stage.top_p, "top_k": stage.top_k}
    return {
        "git_commit": TASK_REVISION.partition("@")[2],
        "num_trials": trials,
        "max_steps": config.domain.max_steps,
        "max_errors": config.domain.max_errors,
        "user_info": {
            "implementation": "user_simulator" if simulated else user.kind.value,
            "llm": user.model if simulated else None,
            "llm_args": {"temperature": user.temperature} if simulated else None,
            "global_simulation_guidelines": domain.guidelines(bool(domain.schemas(Role.USER))) if simulated else None,
        },
        "agent_info": {
            "implementation": "llm_agent" if asked else config.policy.kind.value,
            "llm": policy_name(config),
            "llm_args": sampling,
        },
        "environment_info": {"domain_name": domain.name, "policy": domain.policy, "tool_defs": None},
        "seed": config.seed,
    }


# ---------------------------------------------------------------- in


def _import(arguments: argparse.Namespace) -> int:
    run = import_files(arguments.files, arguments.outputs / arguments.name)
    print(run.table)
    print(f"finished: {run.folder}")
    return 0


@dataclasses.dataclass(frozen=True)
class _File:
    """One results file, read."""

    path: Path
    digest: str  # of its bytes
    info: dict[str, Any]
    domain: Domain
    tasks: dict[str, Task]
    name: str  # of the file of trajectories that it becomes
    trajectories: tuple[Trajectory, ...]

    @property
    def split(self) -> str:
        return self.name.removesuffix(GREEDY)

    @property
    def temperature(self) -> float | None:
        """The agent's; None where the file does not tell."""
        return (self.info["agent_info"].get("llm_args") or {}).get("temperature")

    @property
    def revision(self) -> str:
        """Ours where its tasks are ours, else what the file says of itself."""
        same = all(self.tasks[key] == _known(self.domain, key) for key in self.tasks)
        return TASK_REVISION if same else f"tau2-bench@{self.info['git_commit'][:7]}, other tasks"


def import_files(paths: Sequence[Path], folder: Path) -> Run:
    """A finished evaluation from results files of one agent and one user. Raises ConfigError naming what is wrong."""
    files = _told_apart([_read(path) for path in paths])
    first = files[0]
    for file in files[1:]:
        for key in ("agent_info", "user_info", "max_steps", "max_errors"):
            if _compared(file.info[key]) != _compared(first.info[key]):
                raise ConfigError(f"{file.path}: {key} is not that of {first.path}; import them one by one")
        if file.revision != first.revision:
            raise ConfigError(f"{file.path}: tasks are of {file.revision}, those of {first.path} of {first.revision}")
    config = _config(files)
    plan = _plan(files, config)
    run = Run.create(config, merged_address(sorted(file.digest for file in files)), folder)
    run.record(provider=f"τ²-bench's own results ({first.revision})")
    plan.freeze(folder)
    played = {name: [t for file in files if file.name == name for t in file.trajectories] for name in plan.files}
    for name, trajectories in played.items():
        with run.trajectories(name) as lines:
            for trajectory in trajectories:
                lines.write(trajectory)
    results = evaluation_results(config, run.manifest.provider or "", plan, played)
    run.finish(results, evaluation_table([("imported", results)]))
    return run


def _read(path: Path) -> _File:
    try:
        content = path.read_bytes()
        data = json.loads(content)
        info = data["info"]
        domain = load_domain(info["environment_info"]["domain_name"])
        tasks = read_tasks(domain.name, data["tasks"])
        trajectories = tuple(from_simulation(record, domain.name) for record in data["simulations"])
    except KeyError as problem:
        raise ConfigError(f"{path}: not a results file of τ²-bench: no {problem}") from None
    except (OSError, ValueError, TypeError, AttributeError, ProviderError) as problem:
        raise ConfigError(f"{path}: not a results file of τ²-bench: {problem}") from None
    seen = [(t.task, t.sample) for t in trajectories]
    if len(set(seen)) < len(seen):
        raise ConfigError(f"{path}: holds a trial of a task twice")
    if not seen:
        raise ConfigError(f"{path}: holds no simulations")
    digest = hashlib.sha256(content).hexdigest()
    return _File(path, digest, info, domain, tasks, _split(domain, tasks), trajectories)


def _told_apart(files: Sequence[_File]) -> list[_File]:
    """The files with samples, then those of temperature 0: beside samples they are greedy, alone they are samples."""
    sampled = [file for file in files if file.temperature != 0]
    if not sampled:
        return list(files)
    return [*sampled, *(_as_greedy(file, sampled[0].temperature) for file in files if file.temperature == 0)]


def _as_greedy(file: _File, temperature: float | None) -> _File:
    """The file as greedy ones of the agent whose samples have `temperature`."""
    agent = file.info["agent_info"]
    agent = {**agent, "llm_args": {**agent["llm_args"], "temperature": temperature}}
    return dataclasses.replace(file, info={**file.info, "agent_info": agent}, name=file.split + GREEDY)


def _known(domain: Domain, task: str) -> Task | None:
    try:
        return domain.task(task)
    except ValueError:
        return None


def _split(domain: Domain, tasks: dict[str, Task]) -> str:
    """The split that these tasks are; else the smallest that holds them all; else base."""
    holding = {name: len(ids) for name, ids in domain.splits.items() if set(tasks) <= set(ids)}
    return min(holding, key=lambda name: holding[name], default="base")


def _compared(value: Any) -> Any:
    """The user's guidelines differ from domain to domain."""
    return {k: v for k, v in value.items() if k != "global_simulation_guidelines"} if isinstance(value, dict) else value


def _config(files: Sequence[_File]) -> Config:
    """Settings that say the same; what the files do not tell stays at its default."""
    info = files[0].info
    agent, user = info["agent_info"], info["user_info"]
    base = compose_config(["stage=eval", "user=litellm", "policy=litellm", "policy.model=unknown"])
    names, splits = ([*dict.fromkeys(values)] for values in ([f.domain.name for f in files], [f.split for f in files]))
    stage = EvalConfig(
        samples_per_prompt=info["num_trials"],
        temperature=float((agent.get("llm_args") or {}).get("temperature", 0.0)),
        greedy=any(file.name.endswith(GREEDY) for file in files),
    )
    domain = dataclasses.replace(
        base.domain, names=names, eval_splits=splits, max_steps=info["max_steps"], max_errors=info["max_errors"]
    )
    return dataclasses.replace(
        base,
        stage=stage,
        domain=domain,
        user=_user(base.user, user),
        policy=dataclasses.replace(base.policy, model=agent.get("llm") or agent["implementation"]),
        seed=info.get("seed") or 0,
    )


def _user(base: UserConfig, info: dict[str, Any]) -> UserConfig:
    if info["implementation"] == UserKind.scripted.value:
        return dataclasses.replace(base, kind=UserKind.scripted)
    temperature = float((info.get("llm_args") or {}).get("temperature", 0.0))
    return dataclasses.replace(base, model=info.get("llm") or info["implementation"], temperature=temperature)


def _plan(files: Sequence[_File], config: Config) -> Plan:
    planned: dict[str, list[Place]] = {}
    holders: dict[tuple[str, str, int], Path] = {}
    for file in files:
        for place in _places(file):
            trial = (file.name, place.task, place.sample)
            if trial in holders:
                whose = f"{place.task}, trial {place.sample} is of {holders[trial]} too"
                raise ConfigError(f"{file.path}: {whose}; give every trial once")
            holders[trial] = file.path
            planned.setdefault(file.name, []).append(place)
    return Plan(
        revision=files[0].revision,
        user={key: value for key, value in user_facts(config.user).items() if key != "max_tokens"},  # no file tells it
        limits={"max_steps": config.domain.max_steps, "max_errors": config.domain.max_errors},
        nothing={t.key: score_of_nothing(file.domain.world(t)) for file in files for t in file.tasks.values()},
        files={name: tuple(places) for name, places in planned.items()},
    )


def _places(file: _File) -> list[Place]:
    """Every trial of every task, also where it has no simulation."""
    seeds = {(t.key, t.sample): t.seed for t in file.trajectories}
    of_trial = {t.sample: t.seed for t in file.trajectories}  # τ²-bench itself has one seed a trial
    return [
        Place(task.key, trial, seeds.get((task.key, trial), of_trial.get(trial, 0)))
        for task in file.tasks.values()
        for trial in sorted(of_trial.keys() | set(range(file.info["num_trials"])))
    ]
