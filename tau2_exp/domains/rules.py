"""Which domains and splits there are, and which of them a stage can use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tau2_exp.config import Config, EvalConfig, GrpoConfig, Provider, stages_of
from tau2_exp.config.nearest import suggest
from tau2_exp.plugins import is_path

SPLITS = {
    "telecom": ("train", "test", "base", "small", "full", "development"),
    "airline": ("train", "test", "base"),
    "retail": ("train", "test", "base"),
    "mock": ("base",),
}


def splits_of(config: Config) -> Mapping[str, Sequence[str]]:
    """The splits of each domain that the provider has."""
    if not is_path(config.domain.provider):
        return SPLITS
    from tau2_exp.domains import open_domain

    domain = open_domain(config.domain.provider)
    return {domain.name: tuple(domain.splits)}


def rules(config: Config) -> Iterator[str]:
    """One line for each thing that is wrong."""
    domain, splits = config.domain, splits_of(config)
    if not is_path(domain.provider) and domain.provider not in list(Provider):
        words = [provider.value for provider in Provider]
        yield (
            f"domain.provider={domain.provider}: no such provider{suggest(domain.provider, words)} "
            f"(there are {', '.join(words)}; or one of your own: my_pkg.module:Name)"
        )
    if not domain.names:
        yield "domain.names=[]: name a domain, or bring your own: domain.provider=my_pkg.bank:Bank"
        return
    for name in domain.names:
        if name not in splits:
            yield f"domain.names={name}: no such domain{suggest(name, splits)} (there are {', '.join(splits)})"
            return
    if not any("train" in splits[name] for name in domain.names) and not isinstance(config.stage, EvalConfig):
        yield f"domain={domain.names[0]}: has no train split and is only evaluated; use stage=eval"
    if "mock" in domain.names and domain.provider == Provider.inspect:
        yield "domain.provider=inspect: has no tools for mock; use domain.provider=sierra (pip install '.[tau2]')"
    if domain.train_split != "train":
        yield f"domain.train_split={domain.train_split}: training uses the train split only; leave it at train"
    if not domain.eval_splits:
        yield "domain.eval_splits=[]: name at least one split"
    for name in domain.names:
        for split in domain.eval_splits:
            if split not in splits[name]:
                known = ", ".join(splits[name])
                yield f"domain.eval_splits={split}: {name} has no such split{suggest(split, splits[name])} ({known})"
    for stage, prefix in stages_of(config.stage):
        if isinstance(stage, GrpoConfig) and stage.eval.every:
            for name in domain.names:
                if stage.eval.split not in splits[name]:
                    known = ", ".join(splits[name])
                    yield f"{prefix}eval.split={stage.eval.split}: {name} has no such split; use one of {known}"
    for key, values in (("names", domain.names), ("eval_splits", domain.eval_splits)):
        if len(set(values)) < len(values):
            yield f"domain.{key}=[{','.join(values)}]: names one twice"
