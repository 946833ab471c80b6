"""Checks of the settings of a policy."""

from __future__ import annotations

from collections.abc import Iterator

from tau2_exp.config import Config, CustomConfig, DemosConfig, EvalConfig, OracleKind, PolicyKind, stages_of


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    policy = config.policy
    if policy.kind is PolicyKind.litellm and not policy.model:
        yield "policy.model=null: policy=litellm needs the name of a model; policy.model=NAME"
    if config.model.name == "hosted" and policy.kind is not PolicyKind.litellm:
        yield "model=hosted: stands for the model that policy=litellm names; use model=tiny, or policy=litellm"
    if policy.kind is PolicyKind.sglang and not policy.url and not config.serves_policy:
        yield "policy.url=null: policy=sglang needs a server's address; policy.url=http://HOST:PORT"
    if policy.kind is PolicyKind.sglang and not (config.model.path or config.parent):
        yield "model.path=null: policy=sglang needs the served model's tokenizer; model.path=FOLDER, or parent=RUN"
    plays = (EvalConfig, DemosConfig, CustomConfig) if policy.kind is PolicyKind.custom else (EvalConfig,)
    if policy.kind is not PolicyKind.model and not isinstance(config.stage, plays):
        yield f"policy={policy.kind.value}: only stage=eval has another policy than the model; remove it"
    for stage, prefix in stages_of(config.stage):
        demonstrates = isinstance(stage, DemosConfig) and policy.kind is not PolicyKind.custom
        if demonstrates or (isinstance(stage, EvalConfig) and policy.kind is PolicyKind.oracle):
            yield from _oracle(config)
        elif isinstance(stage, EvalConfig) and policy.kind is PolicyKind.model:
            yield from _equal_samples(stage, prefix)


def _oracle(config: Config) -> Iterator[str]:
    if config.policy.oracle is OracleKind.workflow and config.domain.names != ["telecom"]:
        names = ",".join(config.domain.names)
        yield f"policy.oracle=workflow: knows only telecom, not domain.names=[{names}]; use policy.oracle=gold"


def _equal_samples(stage: EvalConfig, prefix: str) -> Iterator[str]:
    if stage.temperature == 0 and stage.samples_per_prompt > 1:
        yield f"{prefix}temperature=0: makes equal samples; use {prefix}samples_per_prompt=0 {prefix}greedy=true"
