"""What a person sees of a plan."""

from __future__ import annotations

from tau2_exp.config import EvalConfig, GrpoConfig, RewardKind
from tau2_exp.dispatch.plan import Step
from tau2_exp.runs.run import RunStatus

KEY_SETTINGS = ("epochs", "steps", "prompts_per_step", "samples_per_prompt", "batch_size", "lr", "temperature")


def plan_lines(target: Step) -> list[str]:
    """One line a run: stage, what becomes of it, its folder where there is one, its key settings."""
    return [
        f"  {step.stage:9}{_fate(step):10}{_where(step):44}  {_settings(step)}".rstrip() for step in target.lineage()
    ]


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
        if config.reward.kind is not RewardKind.outcome:
            shown.append(f"alpha={config.reward.alpha}")
    if isinstance(stage, EvalConfig):
        shown.append(f"splits={','.join(config.domain.eval_splits)} policy={config.policy.kind.value}")
    return " ".join(shown)
