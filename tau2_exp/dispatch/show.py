"""The lines printed of a plan, and at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tau2_exp.config import READ_BY, Config, DomainConfig, EvalConfig, GrpoConfig
from tau2_exp.dispatch.commands import start_of
from tau2_exp.dispatch.step import Step
from tau2_exp.engines.torch.choice import told
from tau2_exp.engines.torch.sampler import is_served, told_sampler
from tau2_exp.plugins import is_path
from tau2_exp.runs.run import RunStatus
from tau2_exp.system.code import run_command
from tau2_exp.system.quoting import setting, shell

COMMAND = ("python", "-m", "tau2_exp")
FEW_TASKS = 20  # below, an interval spans half of what is possible
KEY_SETTINGS = ("epochs", "steps", "prompts_per_step", "samples_per_prompt", "batch_size", "lr", "temperature")


def plan_lines(target: Step) -> list[str]:
    """The notes, then one line for each run: its stage, whether it is reused or created, its folder, key settings."""
    return notes(target) + [
        f"  {step.stage:9}{_fate(step):10}{_where(step):44}  {_settings(step)}".rstrip() for step in target.lineage()
    ]


def notes(target: Step) -> list[str]:
    """One line for each parent that was trained on other domains than the run that is to start from it.

    One that says what computes a checkpoint's model, and what that costs; and one for each server that samples.
    """
    left = [step for step in target.lineage() if step is target or not step.finished]
    found = [_note(step, step.parent) for step in left if step.parent]
    todo = [step for step in left if not step.finished]
    found += [told(step.config) or "" for step in todo]
    found += [told_sampler(step.config, start_of(step)) for step in todo if is_served(step.config)]
    return list(dict.fromkeys(filter(None, found)))


def _note(step: Step, parent: Step) -> str:
    theirs, ours = parent.config.domain, step.config.domain
    if _tasks(theirs) == _tasks(ours):
        return ""
    add = [f"domain.names=[{','.join(theirs.names)}]"]
    if is_path(theirs.provider):
        add = ["domain=custom", setting("domain.provider", theirs.provider)]
    elif len(theirs.names) == 1:
        add = [f"domain={theirs.names[0]}"]
    return (
        f"note: {_where(parent)} was trained on {', '.join(theirs.names)}; this command uses {', '.join(ours.names)}; "
        f"add {' '.join(add)} to stay with it"
    )


def _tasks(domain: DomainConfig) -> tuple[list[str], str]:
    """The domains by name, and who brings them where they are not τ²-bench's."""
    return sorted(domain.names), domain.provider if is_path(domain.provider) else ""


def end_lines(targets: Sequence[Step], owner: Path) -> list[str]:
    """The commands to run next, for a run's folder or a sweep's."""
    if all(target.finished for target in targets):
        return [f"  {shell([*COMMAND, 'report', owner, '--html', owner / 'page'])}"]
    return [f"  {run_command()} {setting('resume', owner)}", f"  {shell([*COMMAND, 'status', owner])}"]


def remark(config: Config) -> str:
    """Why the numbers of a run are no result; empty where they are."""
    limit = config.domain.limit
    if limit is None or limit >= FEW_TASKS:
        return ""
    return f"{limit} tasks a split (domain.limit) are no result: scores near 0 or 1 mean nothing here but that it works"


def _fate(step: Step) -> str:
    if step.run is None or step.fresh:
        return "to create"
    return {RunStatus.finished: "reused", RunStatus.running: "running"}.get(step.run.status, "to resume")


def _where(step: Step) -> str:
    return str(step.run.folder) if step.run else f"{step.config.outputs}/{step.name or f'…-{step.address[:8]}'}"


def _settings(step: Step) -> str:
    config, stage = step.config, step.config.stage
    shown = [f"{key}={getattr(stage, key)}" for key in KEY_SETTINGS if hasattr(stage, key)]
    if isinstance(stage, GrpoConfig):
        shown.append(f"reward={config.reward.kind.value}")
        if config.reward.kind in READ_BY["alpha"]:
            shown.append(f"alpha={config.reward.alpha}" + _effective(config))
    if isinstance(stage, EvalConfig):
        shown.append(f"splits={','.join(config.domain.eval_splits)} policy={config.policy.kind.value}")
    return " ".join(shown)


def _effective(config: Config) -> str:
    """` (telecom 0.4)`: what alpha is in the domains whose multiplier is not 1; empty where there is none."""
    reward = config.reward
    factors = {name: reward.multipliers.get(name, 1.0) for name in config.domain.names}
    told = [f"{name} {reward.alpha * factor:g}" for name, factor in factors.items() if factor != 1 and reward.alpha]
    return f" ({', '.join(told)})" if told else ""
