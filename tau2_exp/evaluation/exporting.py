"""Evaluations as τ²-bench's own results files, one for each domain and file of trajectories.

An imported evaluation is exported as it came: its labels, its tasks, and its simulations whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tau2_exp.config import TASK_REVISION, Config, ConfigError, EvalConfig, PolicyKind, UserKind
from tau2_exp.domains import TauDomain, load_domain
from tau2_exp.evaluation.plan import GREEDY, Plan, read_plan
from tau2_exp.evaluation.records import UNKNOWN
from tau2_exp.evaluation.results_format import to_simulation
from tau2_exp.evaluation.scores import policy_name
from tau2_exp.evaluation.sources import Source, read_sources
from tau2_exp.evaluation.standing import Trial, standing
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run
from tau2_exp.types import Role, Trajectory


@dataclass(frozen=True)
class Exported:
    """One results file, and how many of the plan's episodes are not in it."""

    results: dict[str, Any]
    planned: int
    faulted: int  # ended in a fault that is not the agent's, and have no score

    @property
    def told(self) -> str:
        """The file's counts in words: tasks, simulations, and episodes that are left out."""
        tasks, simulations = len(self.results["tasks"]), len(self.results["simulations"])
        said = f"{tasks} tasks, {simulations} simulations"
        said += f"; {self.faulted} ended in a fault and were left out" if self.faulted else ""
        unplayed = self.planned - simulations - self.faulted
        return said + (f"; {unplayed} of the plan's {self.planned} were not played" if unplayed else "")


def register(commands: argparse._SubParsersAction) -> None:
    """Add `export` to a parser's subcommands."""
    command = commands.add_parser("export", help="write an evaluation in τ²-bench's results format")
    command.add_argument("folder", type=Path, metavar="RUN", help="a run's folder")
    command.add_argument("--to", type=Path, required=True, metavar="PATH", help="a folder, or FILE.json for one file")
    command.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    files = export_run(Run.open(arguments.folder))
    target: Path = arguments.to
    if target.suffix == ".json" and len(files) > 1:
        raise ConfigError(f"--to {target}: the run makes {len(files)} files ({', '.join(files)}); name a folder")
    paths = {name: target if target.suffix == ".json" else target / f"{name}.json" for name in files}
    for path in paths.values():
        if path.exists():
            raise ConfigError(f"--to {target}: {path} already exists; name another folder, or remove it")
    for name, file in files.items():
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        write_json(paths[name], file.results)
        print(f"{paths[name]}: {file.told}")
    return 0


def export_run(run: Run) -> dict[str, Exported]:
    """The results files of a run, by "domain_file" ("retail_test-greedy"). Raises ConfigError without any episode."""
    plan, sources = read_plan(run.folder), read_sources(run.folder)
    if plan.revision != TASK_REVISION and not sources:
        raise ConfigError(f"{run.folder}: its tasks ({plan.revision}) are not kept in it; import its files anew")
    files = {}
    for name in plan.files:
        played = standing(run.trajectories(name))
        for domain in dict.fromkeys(place.task.partition("/")[0] for place in plan.files[name]):
            own = [source for source in sources if (source.domain, source.file) == (domain, name)]
            files[f"{domain}_{name}"] = _exported(run, plan, name, load_domain(domain), played, own)
    if not any(file.results["simulations"] for file in files.values()):
        raise ConfigError(f"{run.folder}: none of its episodes is played yet; there is nothing to export")
    return files


def _exported(
    run: Run, plan: Plan, name: str, domain: TauDomain, played: dict[Trial, Trajectory], sources: Sequence[Source]
) -> Exported:
    planned = [p.trial for p in plan.files[name] if p.task.startswith(f"{domain.name}/")]
    tasks = _tasks(domain, planned, sources)
    given = _given_back(sources)
    rest = [played[trial] for trial in planned if trial in played and trial not in given]
    scored = [t for t in rest if t.scored]
    begun = datetime.fromisoformat(run.manifest.created)
    made = [
        to_simulation(t, tasks[t.key], begun.isoformat(), (begun + timedelta(seconds=t.seconds)).isoformat())
        for t in scored
    ]
    trials = 1 + max(sample for _, sample in planned)
    info = _info_given_back(sources, domain, trials) if sources else _info(run.config, domain, trials, name)
    results = {
        "timestamp": sources[0].results.get("timestamp") if sources else run.manifest.created,
        "info": info,
        "tasks": list(tasks.values()),
        "simulations": [*given.values(), *made],
    }
    return Exported(results, len(planned), len(rest) - len(scored))


def _tasks(domain: TauDomain, planned: Sequence[Trial], sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """τ²-bench's records of the plan's tasks: those that were imported, else ours."""
    theirs = [record for source in sources for record in source.results.get("tasks") or ()]
    tasks = {f"{domain.name}/{record['id']}": record for record in theirs}
    for key in dict.fromkeys(key for key, _ in planned):
        if key not in tasks:
            tasks[key] = domain.record(key.partition("/")[2])
    return tasks


def _given_back(sources: Sequence[Source]) -> dict[Trial, dict[str, Any]]:
    """Simulations as they were imported; of a trial that several files hold, the first that was evaluated."""
    found: dict[Trial, dict[str, Any]] = {}
    for source in sources:
        for trial, record in source.simulations.items():
            if trial not in found or (record.get("reward_info") and not found[trial].get("reward_info")):
                found[trial] = record
    return found


def _info_given_back(sources: Sequence[Source], domain: TauDomain, trials: int) -> dict[str, Any]:
    """The first file's info; fields that τ²-bench wants and the file lacks are null or `unknown`."""
    speaker = {"implementation": UNKNOWN, "llm": None, "llm_args": None}
    untold: dict[str, Any] = dict.fromkeys(("git_commit", "num_trials", "max_steps", "max_errors"))
    untold |= {"user_info": speaker, "agent_info": speaker, "environment_info": {"domain_name": domain.name}}
    info = {**untold, **(sources[0].results.get("info") or {})}
    return info if len(sources) == 1 and info["num_trials"] else {**info, "num_trials": trials}


def _info(config: Config, domain: TauDomain, trials: int, name: str) -> dict[str, Any]:
    user, stage = config.user, config.stage
    assert isinstance(stage, EvalConfig)
    simulated, asked = user.kind is UserKind.litellm, config.policy.kind is PolicyKind.litellm
    temperature = 0.0 if name.endswith(GREEDY) else stage.temperature
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
