"""How episodes are run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RolloutConfig:
    concurrency: int = 96  # episodes at once
    fault_retries: int = 2  # fresh starts of an episode that a fault ended
    unparsable_limit: int = 3  # unparsable turns that end an episode
