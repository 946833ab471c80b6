"""Tasks, worlds and verdicts: τ²-bench's, and those of a domain of one's own.

The names below are imported when they are first asked for: `domains.rules` is read where τ²-bench's libraries are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tau2_exp.domains.domain import TauDomain, load_domain
    from tau2_exp.domains.opening import open_domain, task_revision
    from tau2_exp.domains.providers import ProviderError
    from tau2_exp.domains.python_domain import PythonDomain, PythonTask
    from tau2_exp.domains.world import SetupError, TauWorld

__all__ = [
    "ProviderError",
    "PythonDomain",
    "PythonTask",
    "SetupError",
    "TauDomain",
    "TauWorld",
    "load_domain",
    "open_domain",
    "task_revision",
]

_MODULES = {
    "TauDomain": "domain",
    "load_domain": "domain",
    "open_domain": "opening",
    "task_revision": "opening",
    "ProviderError": "providers",
    "PythonDomain": "python_domain",
    "PythonTask": "python_domain",
    "SetupError": "world",
    "TauWorld": "world",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
