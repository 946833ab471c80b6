"""τ²-bench: tasks, worlds and verdicts.

The names below are imported when they are first asked for: `domains.rules` is read where τ²-bench's libraries are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tau2_exp.domains.domain import Domain, load_domain
    from tau2_exp.domains.providers import ProviderError
    from tau2_exp.domains.world import SetupError, TauWorld

__all__ = ["Domain", "ProviderError", "SetupError", "TauWorld", "load_domain"]

_MODULES = {
    "Domain": "domain",
    "load_domain": "domain",
    "ProviderError": "providers",
    "SetupError": "world",
    "TauWorld": "world",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
