"""One check across all groups, before anything starts: each room says what cannot work, with the mend."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tau2_exp.config import Config, ConfigError, EngineName
from tau2_exp.config.rules import rules as schema_rules
from tau2_exp.domains.rules import rules as domain_rules
from tau2_exp.learning.rules import rules as learning_rules
from tau2_exp.llm.rules import rules as llm_rules
from tau2_exp.plugins.rules import rules as plugin_rules
from tau2_exp.policies.rules import rules as policy_rules
from tau2_exp.system.rules import rules as system_rules
from tau2_exp.users.rules import rules as user_rules


def check(config: Config) -> None:
    """Raises ConfigError with the first problem of a configuration."""
    for problem in problems(config):
        raise ConfigError(problem)


def problems(config: Config) -> Iterator[str]:
    """One line for each problem of a configuration; each room's rules rely on those before them."""
    rooms = (
        schema_rules,
        plugin_rules,
        domain_rules,
        learning_rules,
        system_rules,
        llm_rules,
        user_rules,
        policy_rules,
        _engine_rules,
    )
    return chain.from_iterable(rules(config) for rules in rooms)


def _engine_rules(config: Config) -> Iterator[str]:
    """Those of the engine that is chosen; the other's are not even imported, so that a command answers at once."""
    if config.engine.name is EngineName.slime:
        from tau2_exp.engines.slime.plan.check import rules
    else:
        from tau2_exp.engines.torch.rules import rules
    yield from rules(config)
