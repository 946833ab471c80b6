"""`python -m tau2_exp credit RUN`: which credit knows best what a turn was worth, with a run's model."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tau2_exp.codec import decode, encode
from tau2_exp.config import BranchConfig, ConfigError, EngineName, UserKind
from tau2_exp.evaluation.credit_bench import MeasuredGroup, estimators, judge
from tau2_exp.jsonl import JsonlWriter, read_jsonl, write_json
from tau2_exp.types import Sampling, Task

if TYPE_CHECKING:
    from tau2_exp.interfaces import Policy
    from tau2_exp.rollouts.setting import RolloutSetting
    from tau2_exp.runs.run import Run

PLAN, GROUPS = "plan.json", "groups.jsonl"


def register(subparsers: Any) -> None:
    """Add the `credit` command to a parser's subcommands."""
    parser = subparsers.add_parser(
        "credit", help="measure what turns were worth by playing on, and which credit knows it best"
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="finished runs with a model (SFT, RFT, GRPO), judged as one",
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="ids of tasks, as 12 or retail/12 (default: drawn from the split)"
    )
    parser.add_argument("--split", default="train", help="the split that tasks are drawn from (default: train)")
    parser.add_argument("--groups", type=int, default=8, help="tasks, each with a group of 8 episodes (default: 8)")
    parser.add_argument("--turns", type=int, default=12, help="turns of each group that are measured (default: 12)")
    parser.add_argument(
        "--continuations", type=int, default=64, help="times that each state is played on from (default: 64)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="of the policy's sampling (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; each further one adds 1 (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go; several runs need it (default of one: RUN-credit)",
    )
    parser.add_argument("--svg", action="store_true", help="draw the figure as an SVG file too; takes Chromium")
    parser.set_defaults(run=_command)


def _command(args: argparse.Namespace) -> int:
    from tau2_exp.report.credit_bench import bench_text, write_bench, write_svg
    from tau2_exp.runs.run import Run

    for name in ("groups", "turns", "continuations"):
        least = 2 if name == "continuations" else 1
        if getattr(args, name) < least:
            raise ConfigError(f"--{name} {getattr(args, name)}: must be {least} or more")
    if args.temperature <= 0:
        raise ConfigError(f"--temperature {args.temperature:g}: must be above 0: without chance all turns are worth 0")
    runs = [Run.open(folder) for folder in args.folders]
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise ConfigError("credit: one run is named twice; name each once")
    if len(runs) > 1 and not args.out:
        raise ConfigError("--out DIR: say where the joint results of several runs go")
    starts = [_model_of(run) for run in runs]
    out = args.out or runs[0].folder.parent / f"{runs[0].folder.name}-credit"
    groups = [
        measure(run, start, args, args.seed + place, out if len(runs) == 1 else out / run.folder.name)
        for place, (run, start) in enumerate(zip(runs, starts, strict=True))
    ]
    bench = judge(groups, estimators(runs[0].config.reward))
    text = bench_text(bench, runs)
    print(text)
    written = write_bench(bench, text, out)
    if args.svg:
        written.append(write_svg(bench, out / "figure.svg"))
    print(f"files: {', '.join(path.name for path in written)} in {out}")
    return 0


def measure(run: Run, start: Path, args: argparse.Namespace, seed: int, out: Path) -> list[MeasuredGroup]:
    """The groups of one run, whose model is at `start`: those that `out` holds, and the others played.

    Raises ConfigError where `out` holds a bench of other settings.
    """
    from tau2_exp.rollouts.setting import RolloutSetting
    from tau2_exp.stages.credit_bench import BenchPlan, measure_group

    setting = RolloutSetting(run)
    plan = BenchPlan(args.turns, args.continuations, BranchConfig(), seed)
    tasks = _tasks(setting, args, seed)
    _freeze(out, {"run": run.manifest.address, "temperature": args.temperature, **encode(plan)})
    policy = _policy(setting, start, Sampling(args.temperature, max_tokens=run.config.model.max_new_tokens))
    path = out / GROUPS
    known = {record["task"]: decode(MeasuredGroup, record["group"]) for record in read_jsonl(path)}
    begun, groups = time.monotonic(), []
    with JsonlWriter(path) as file:
        for number, task in enumerate(tasks, start=1):
            if task.key not in known:
                known[task.key] = asyncio.run(measure_group(setting.episode_setting, policy, task, plan))
                file.write({"task": task.key, "group": encode(known[task.key])})
                seconds = time.monotonic() - begun
                print(f"credit: {number}/{len(tasks)} groups, {task.key}, {seconds:.0f} s", flush=True)
            groups.append(known[task.key])
    return groups


def _tasks(setting: RolloutSetting, args: argparse.Namespace, seed: int) -> list[Task]:
    """The named tasks, or so many drawn from the split. Raises ConfigError for a task that it does not have."""
    try:
        found = list(setting.tasks(args.split))
    except ValueError as error:
        raise ConfigError(f"--split {args.split}: {error}") from None
    if args.tasks:
        return named_tasks(args.tasks, found, f"the split {args.split}")
    return random.Random(seed).sample(found, min(args.groups, len(found)))


def named_tasks(names: Sequence[str], tasks: Sequence[Task], where: str) -> list[Task]:
    """The tasks of these ids, each once; `domain/id` where several domains have one of the id. Raises ConfigError."""
    found = {}
    for name in names:
        matches = [task for task in tasks if name in (task.id, task.key)]
        if not matches:
            raise ConfigError(f"--tasks {name}: {where} has no task of that id")
        if len(matches) > 1:
            raise ConfigError(f"--tasks {name}: several domains have it; write {' or '.join(t.key for t in matches)}")
        found[matches[0].key] = matches[0]
    return list(found.values())


def _freeze(out: Path, settings: dict[str, Any]) -> None:
    """Note what is measured; a folder of other measurements is refused."""
    path = out / PLAN
    if path.is_file():
        if json.loads(path.read_text()) != settings:
            raise ConfigError(f"{out}: holds a bench of other settings; name another folder with --out")
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is there, and holds no bench; name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _model_of(run: Run) -> Path:
    """The folder of the run's model. Raises ConfigError where it has none, or where its user cannot be started here."""
    from tau2_exp.runs.run import RunStatus

    if run.status is not RunStatus.finished or "model" not in run.results:
        raise ConfigError(f"{run.folder}: has no model of its own to play with; name a finished SFT, RFT or GRPO run")
    if run.config.user.serve:
        raise ConfigError(
            f"{run.folder}: its user was a model that was served for the run alone (user.serve); name a run with a "
            "scripted user, or with a user behind an API"
        )
    return run.folder / run.results["model"]


def _policy(setting: RolloutSetting, start: Path, sampling: Sampling) -> Policy:
    config = setting.config
    from tau2_exp.engines.torch.backbone import check_context
    from tau2_exp.engines.torch.checkpoint import load_model
    from tau2_exp.engines.torch.generation import TorchGenerator
    from tau2_exp.engines.torch.tokenizer import load_tokenizer

    tokenizer = setting.adopt(load_tokenizer(start), start)
    model = load_model(start, config.hardware, config.engine.backbone)
    check_context(model, config.model.context)
    local = config.user.kind in (UserKind.scripted, UserKind.custom)
    engine = dataclasses.replace(config.engine, name=EngineName.torch, lockstep=config.engine.lockstep and local)
    return setting.token_policy(TorchGenerator(model, engine, config.model.context), tokenizer, sampling)
