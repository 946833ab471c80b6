"""Which domains and splits there are, and which of them a stage can use."""

from __future__ import annotations

from collections.abc import Iterator

from tau2_exp.config import Config, EvalConfig, Provider
from tau2_exp.config.nearest import suggest

SPLITS = {
    "telecom": ("train", "test", "base", "small", "full", "development"),
    "airline": ("train", "test", "base"),
    "retail": ("train", "test", "base"),
    "mock": ("base",),
}


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    domain = config.domain
    if not domain.names:
        yield "domain.names=[]: name at least one domain"
    for name in domain.names:
        if name not in SPLITS:
            yield f"domain.names={name}: no such domain{suggest(name, SPLITS)} (there are {', '.join(SPLITS)})"
            return
    if domain.names == ["mock"] and not isinstance(config.stage, EvalConfig):
        yield f"domain=mock: has no train split and is only evaluated; take stage=eval, not {config.stage.name}"
    if "mock" in domain.names and domain.provider is Provider.inspect:
        yield "domain.provider=inspect: has no tools for mock; take domain.provider=sierra (pip install '.[tau2]')"
    if domain.train_split != "train":
        yield f"domain.train_split={domain.train_split}: all that trains reads train; leave it at train"
    if not domain.eval_splits:
        yield "domain.eval_splits=[]: name at least one split"
    for name in domain.names:
        for split in domain.eval_splits:
            if split not in SPLITS[name]:
                known = ", ".join(SPLITS[name])
                yield f"domain.eval_splits={split}: {name} has no such split{suggest(split, SPLITS[name])} ({known})"
    for key, values in (("names", domain.names), ("eval_splits", domain.eval_splits)):
        if len(set(values)) < len(values):
            yield f"domain.{key}=[{','.join(values)}]: names one twice"
