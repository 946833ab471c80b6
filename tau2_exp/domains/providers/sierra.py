"""sierra's own package as a provider: its toolkits over our databases, with our `calculate`."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from functools import cached_property
from pathlib import Path
from types import MethodType
from typing import Any

from tau2_exp.domains.providers import DataFolder, ProviderError, Toolkit
from tau2_exp.domains.providers.functions import calculate_tool, rebound
from tau2_exp.types import Role, Schema

# domain → side → (module and class of the tools, module and class of the database, data file)
_PARTS = {
    "airline": {Role.ASSISTANT: ("tools.AirlineTools", "data_model.FlightDB", "db.json")},
    "retail": {Role.ASSISTANT: ("tools.RetailTools", "data_model.RetailDB", "db.json")},
    "mock": {Role.ASSISTANT: ("tools.MockTools", "data_model.MockDB", "db.json")},
    "telecom": {
        Role.ASSISTANT: ("tools.TelecomTools", "data_model.TelecomDB", "db.toml"),
        Role.USER: ("user_tools.TelecomUserTools", "user_data_model.TelecomUserDB", "user_db.toml"),
    },
}


class SierraSource:
    """The package `tau2`. A source checkout finds its data by itself; an installation needs TAU2_DATA_DIR."""

    domains = tuple(_PARTS)

    def __init__(self) -> None:
        self.name = f"tau2 {_version()}"
        self.revision = f"tau2-bench@{_commit()}"

    @cached_property
    def data(self) -> DataFolder:
        """τ²-bench's data files. Raises ProviderError where they are missing."""
        root = Path(_import("tau2.utils.utils").DATA_DIR) / "tau2"
        if not (root / "domains").is_dir():
            raise ProviderError(f"τ²-bench's data is not in {root}: set TAU2_DATA_DIR to the data folder of its source")
        return DataFolder(root)

    def toolkits(self, domain: str) -> dict[Role, Toolkit]:
        """The toolkits of a domain, by side."""
        return {role: _toolkit(domain, *part) for role, part in _PARTS[domain].items()}


def _toolkit(domain: str, tools: str, model: str, data: str) -> Toolkit:
    kit = _named(domain, tools)

    def make(database: Any) -> Any:
        made = kit(database)
        if hasattr(kit, "calculate"):
            function = rebound(calculate_tool, calculate_tool.__globals__, f"{kit.__name__}.calculate")
            made.calculate = MethodType(function, made)
        if hasattr(kit, "default_vpn_details"):  # one object for all worlds, and a tool writes to it
            made.default_vpn_details = kit.default_vpn_details.model_copy()
        return made

    def schemas() -> list[Schema]:
        return [tool.openai_schema for tool in kit(None).get_tools().values()]

    return Toolkit(
        make=make,
        model=_named(domain, model),
        data=f"domains/{domain}/{data}",
        tools=tuple(kit(None).tools),
        schemas=schemas,
    )


def _named(domain: str, path: str) -> Any:
    module, name = path.split(".")
    return getattr(_import(f"tau2.domains.{domain}.{module}"), name)


def _import(name: str) -> Any:
    try:
        from loguru import logger

        logger.disable("tau2")  # its tools log every call
        return importlib.import_module(name)
    except ImportError as error:
        raise ProviderError(f"τ²-bench (tau2) cannot be imported: {error}") from error


def _version() -> str:
    try:
        return importlib.metadata.version("tau2")
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def _commit() -> str:
    """The commit that pip installed from, where it wrote one down."""
    try:
        recorded = importlib.metadata.distribution("tau2").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        recorded = None
    commit = json.loads(recorded or "{}").get("vcs_info", {}).get("commit_id", "unknown")
    return str(commit)[:7]
