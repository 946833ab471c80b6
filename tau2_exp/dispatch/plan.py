"""The runs of a configuration: the stage itself, the chain before it, a pipeline's members.

An existing run with the same content address takes the place of one to be made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

from tau2_exp.compose.check import check
from tau2_exp.config import (
    CHAIN,
    RANDOM_BASE,
    Config,
    ConfigError,
    ModelConfig,
    PipelineConfig,
    PolicyKind,
    SftConfig,
    StageConfig,
)
from tau2_exp.dispatch.step import Step
from tau2_exp.runs.address import content_address, pipeline_address
from tau2_exp.runs.outputs import check_name, index_runs
from tau2_exp.runs.run import Run, RunStatus
from tau2_exp.system.quoting import setting

TRAINED = ("sft", "rft", "grpo")
MODELS = (*TRAINED, "custom")  # a stage of the user's own may leave a model
DEPENDS_ON = {
    "demos": (),
    "sft": ("demos", *MODELS),
    "rft": MODELS,
    "grpo": MODELS,
    "eval": MODELS,
    "custom": ("demos", *MODELS, "eval"),
}
SHAPE = ("path", "layers", "width", "heads", "kv_heads", "head_dim", "ffn", "rope_base", "tied", "protocol")
NO_PARENT = "model"  # parent=model: begin with model.path itself


class Planner:
    """Plans runs that share what they have in common, within one `outputs` folder."""

    def __init__(self, outputs: Path) -> None:
        self._made = index_runs(outputs)
        self._steps: dict[str, Step] = {}

    def plan(self, config: Config, chain: Callable[[], PipelineConfig]) -> Step:
        """The step of a configuration, with all it depends on. `chain` gives the settings of the stages before it."""
        check_name(config.name)
        if isinstance(config.stage, PipelineConfig):
            return self._pipeline(config, config.stage)
        return self._step(config, self._parent(config, chain), config.name)

    def adopt(self, run: Run) -> Step:
        """The step of a run that is already frozen."""
        address = run.manifest.address
        if address not in self._steps:
            needs = [*run.members, *([run.parent] if run.parent else [])]
            gone = next((need for need in needs if need.status is RunStatus.unknown), None)
            if gone is not None and run.status is not RunStatus.finished:
                raise ConfigError(f"{run.folder}: {gone.folder}, which it depends on, is gone; put it back")
            step = Step(run.config, address, run=run)
            if gone is None:  # else it is finished, and needs nothing of them
                step.parent = self.adopt(run.parent) if run.parent else None
                step.members = tuple(self.adopt(member) for member in run.members)
            self._steps[address] = step
        return self._steps[address]

    def _pipeline(self, config: Config, stage: PipelineConfig) -> Step:
        parent = self._given_parent(config, stage.stages[0]) if config.parent else None
        members: list[Step] = []
        for name in stage.stages:
            parent = self._step(_member(config, getattr(stage, name)), parent, _member_name(config, name))
            members.append(parent)
            if stage.evaluate and name in TRAINED:
                evaluation = _member(config, stage.eval)
                members.append(self._step(evaluation, parent, _member_name(config, f"{name}-eval")))
        address = pipeline_address([member.address for member in members])
        return self._keep(Step(config, address, None, tuple(members), self._made.get(address), name=config.name))

    def _parent(self, config: Config, chain: Callable[[], PipelineConfig]) -> Step | None:
        if config.parent:
            return self._given_parent(config, config.stage.name)
        names = _names_before(config)
        if not names:
            return None
        settings = chain()
        step: Step | None = None
        for name in names:
            member = _member(config, getattr(settings, name))
            check(member)
            step = self._step(member, step, _member_name(config, name))
        return step

    def _given_parent(self, config: Config, stage: str) -> Step | None:
        given = f"parent={config.parent}"
        if config.parent == NO_PARENT:
            if not config.model.path:
                raise ConfigError(f"{given}: there is no model to start from; give model.path=FOLDER")
            return None
        wanted = DEPENDS_ON[stage]
        if not wanted:
            raise ConfigError(f"{given}: stage={stage} depends on no other run; remove it")
        run = _last_of(Run.open(str(config.parent)), wanted)
        if run is None:
            raise ConfigError(f"{given}: stage={stage} depends on {' or '.join(wanted)}, and this run is none of them")
        if run.status is not RunStatus.finished:
            raise ConfigError(f"{given}: is not finished; finish it first: {setting('resume', run.folder)}")
        if run.stage in MODELS and (unlike := _unlike(run.config.model, config.model)):
            raise ConfigError(f"{given}: its model differs from this run's; use {unlike}")
        if run.stage in MODELS and (most := _made_for(run)) and config.model.context > most:
            raise ConfigError(
                f"model.context={config.model.context}: the model of {given} was made for {most} tokens; lower it"
            )
        return self.adopt(run)

    def _step(self, config: Config, parent: Step | None, name: str | None) -> Step:
        begun = parent is not None and parent.config.stage.name in MODELS
        if isinstance(config.stage, SftConfig) and config.model.lora and not (begun or config.model.path):
            raise ConfigError(f"model.lora={config.model.lora}: {RANDOM_BASE}")
        address = content_address(config, parent.address if parent else None)
        return self._keep(Step(config, address, parent, (), self._made.get(address), name=name))

    def _keep(self, step: Step) -> Step:
        return self._steps.setdefault(step.address, step)


def _names_before(config: Config) -> tuple[str, ...]:
    """The stages of the chain that a stage without a parent depends on."""
    name = config.stage.name
    if name == "eval":
        return () if config.policy.kind is not PolicyKind.model or config.model.path else CHAIN
    if name == "custom" or (isinstance(config.stage, SftConfig) and config.stage.data):
        return ()
    return CHAIN[: CHAIN.index(name)]


def _member(config: Config, stage: StageConfig) -> Config:
    return replace(config, stage=stage, parent=None, resume=None, name=None, dry_run=False)


def _member_name(config: Config, name: str) -> str | None:
    return f"{config.name}-{name}" if config.name else None


def _last_of(run: Run, wanted: Sequence[str]) -> Run | None:
    """The run itself, or of a pipeline its last member that serves."""
    known = [run, *(member for member in reversed(run.members) if member.status is not RunStatus.unknown)]
    return next((member for member in known if member.stage in wanted), None)


def _made_for(run: Run) -> int:
    """The longest sequence that a run's model was made for, in tokens; 0 where its files do not tell."""
    path = run.checkpoint and run.checkpoint / "config.json"
    return int(json.loads(path.read_text()).get("max_position_embeddings") or 0) if path and path.is_file() else 0


def _unlike(theirs: ModelConfig, ours: ModelConfig) -> str:
    """The overrides that give the child its parent's model; empty where it has it."""
    if theirs.name != ours.name:
        return f"model={theirs.name}"
    differ = [key for key in SHAPE if getattr(theirs, key) != getattr(ours, key)]
    return " ".join(f"model.{key}={_written(getattr(theirs, key))}" for key in differ)


def _written(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
