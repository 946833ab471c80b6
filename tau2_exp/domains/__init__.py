"""τ²-bench: tasks, worlds and verdicts."""

from tau2_exp.domains.domain import Domain, load_domain
from tau2_exp.domains.providers import ProviderError
from tau2_exp.domains.world import SetupError, TauWorld

__all__ = ["Domain", "ProviderError", "SetupError", "TauWorld", "load_domain"]
