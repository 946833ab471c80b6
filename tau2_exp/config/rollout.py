"""How episodes are run."""

from __future__ import annotations

from dataclasses import dataclass

from tau2_exp.config.setting import setting


@dataclass
class RolloutConfig:
    """How episodes are run."""

    concurrency: int = setting(96, "number of episodes that are played at once", above=0)
    fault_retries: int = setting(
        2, "fresh starts of an episode that ended by a fault of the user, the environment or the engine", at_least=0
    )
    unparsable_limit: int = setting(3, "unparsable turns of the agent after which an episode ends", above=0)
