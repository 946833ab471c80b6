"""PyPI's inspect-evals as a provider: its toolkits' plain functions, without an inspect run.

Its tools return records as compact JSON where τ²-bench returns the models themselves. So the functions see
subclasses of those models whose `model_dump_json` is the model, and one rendering serves every provider.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tau2_exp.domains.providers import DataFolder, ProviderError, Toolkit
from tau2_exp.domains.providers.functions import calculate_tool, kit_class, schemas_of, transfer_tool
from tau2_exp.types import Role

_PACKAGE = "inspect_evals.tau2"
_COMMON: dict[str, Callable[..., Any]] = {"calculate": calculate_tool, "transfer_to_human_agents": transfer_tool}
_ORDER = {  # τ²-bench's, which is the order in which an agent reads them
    "airline": (
        "book_reservation",
        "calculate",
        "cancel_reservation",
        "get_reservation_details",
        "get_user_details",
        "list_all_airports",
        "search_direct_flight",
        "search_onestop_flight",
        "send_certificate",
        "transfer_to_human_agents",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
        "get_flight_status",
    ),
    "retail": (
        "calculate",
        "cancel_pending_order",
        "exchange_delivered_order_items",
        "find_user_id_by_name_zip",
        "find_user_id_by_email",
        "get_order_details",
        "get_product_details",
        "get_user_details",
        "list_all_product_types",
        "modify_pending_order_address",
        "modify_pending_order_items",
        "modify_pending_order_payment",
        "modify_user_address",
        "return_delivered_order_items",
        "transfer_to_human_agents",
    ),
}


class InspectSource:
    """The package inspect-evals, which has the data of τ²-bench at the revision named here, byte for byte."""

    revision = "tau2-bench@337326e"
    domains = ("airline", "retail", "telecom")

    def __init__(self) -> None:
        self.name = f"inspect-evals {importlib.metadata.version('inspect-evals')}"

    @cached_property
    def data(self) -> DataFolder:
        """τ²-bench's data files in the package. Raises ProviderError where it cannot be imported."""
        return DataFolder(Path(_module("utils").TAU2_DATA_DIR))

    def toolkits(self, domain: str) -> dict[Role, Toolkit]:
        """The toolkits of a domain, by side. Raises ProviderError for mock."""
        if domain == "mock":
            raise ProviderError(
                "domain mock needs τ²-bench's own package (the extra 'tau2'): inspect-evals has no tools"
            )
        builders = {"airline": _airline, "retail": _retail, "telecom": _telecom}
        return builders[domain]()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ImportError as error:
        raise ProviderError(f"inspect-evals cannot be imported: {error}") from error


def _airline() -> dict[Role, Toolkit]:
    models, source = _module("airline.data_model"), _module("airline.AirlineAgentTools").AirlineAgentTools
    user, reservation = _returned(models.User), _returned(models.Reservation)
    database = _database(models.FlightDB, users=user, reservations=reservation)
    kit = kit_class("AirlineTools", source, {"Reservation": reservation}, _COMMON)
    return {Role.ASSISTANT: _agent("airline", kit, database)}


def _retail() -> dict[Role, Toolkit]:
    models, source = _module("retail.data_model"), _module("retail.RetailAgentTools").RetailAgentTools
    user, order, product = (_returned(models.User), _returned(models.Order), _returned(models.Product))
    database = _database(models.RetailDB, users=user, orders=order, products=product)
    kit = kit_class("RetailTools", source, {}, {**_COMMON, "exchange_delivered_order_items": _exchange(source)})
    render = {"list_all_product_types": lambda result: json.dumps(result, sort_keys=True)}
    return {Role.ASSISTANT: _agent("retail", kit, database, render)}


def _exchange(source: Any) -> Callable[..., Any]:
    theirs = source.exchange_delivered_order_items

    def exchange_delivered_order_items(
        self: Any, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
    ) -> Any:
        order = theirs(self, order_id, item_ids, new_item_ids, payment_method_id)
        if len(item_ids) == 0:  # τ²-bench sums prices from the integer 0, which then stays one
            order.exchange_price_difference = 0
        return order

    return exchange_delivered_order_items


def _telecom() -> dict[Role, Toolkit]:
    phone = _module("telecom.user_data_model")
    settings = type("APNSettings", (phone.APNSettings,), {"model_config": ConfigDict(extra="forbid")})
    settings.__doc__ = phone.APNSettings.__doc__
    agent_kit = kit_class("TelecomTools", _module("telecom.TelecomAgentTools").TelecomAgentTools, {}, {})
    user_kit = kit_class(
        "TelecomUserTools", _module("telecom.TelecomUserTools").TelecomUserTools, {"APNSettings": settings}, {}
    )
    user_kit.set_apn_settings.__annotations__["apn_settings"] = settings | dict[str, Any]  # type: ignore[attr-defined]
    vpn = phone.VpnDetails(
        server_address="192.168.1.1", protocol="OpenVPN", server_performance=phone.PerformanceLevel.EXCELLENT
    )
    agent_tools = _names(_module("telecom.tools").all_telecom_agent_tools)
    user_tools = _names(_module("telecom.user_tools").all_telecom_user_tools)
    return {
        Role.ASSISTANT: Toolkit(
            make=lambda database: _put(agent_kit, db=database),
            model=_module("telecom.data_model").TelecomDB,
            data="domains/telecom/db.toml",
            tools=agent_tools,
            schemas=lambda: schemas_of((name, getattr(agent_kit, name)) for name in agent_tools),
            render={"get_details_by_id": lambda result: json.dumps(result, default=str)},
        ),
        Role.USER: Toolkit(
            make=lambda database: _put(user_kit, db=database, default_vpn_details=vpn.model_copy()),
            model=phone.TelecomUserDB,
            data="domains/telecom/user_db.toml",
            tools=user_tools,
            schemas=lambda: schemas_of((name, getattr(user_kit, name)) for name in user_tools),
        ),
    }


def _agent(domain: str, kit: type, model: type, render: dict[str, Callable[[Any], str]] | None = None) -> Toolkit:
    """Airline or retail, whose tools are documented on wrappers beside the toolkit."""
    module = _module(f"{domain}.tools")
    return Toolkit(
        make=lambda database: _put(kit, db=database),
        model=model,
        data=f"domains/{domain}/db.json",
        tools=_ORDER[domain],
        schemas=lambda: schemas_of((tool, getattr(module, tool)()) for tool in _ORDER[domain]),
        render=render or {},
    )


def _names(wrappers: Iterable[Any]) -> tuple[str, ...]:
    return tuple(wrapper.__name__ for wrapper in wrappers)


def _put(kit: type, **state: Any) -> Any:
    tools = kit()
    tools.__dict__.update(state)
    return tools


def _returned(model: type[BaseModel]) -> Any:
    """A subclass whose JSON is the model itself: what a tool returns is then rendered as τ²-bench renders it."""
    return type(model.__name__, (model,), {"model_dump_json": lambda self: self, "__module__": __name__})


def _database(model: type[BaseModel], **records: Any) -> type[BaseModel]:
    tables = {name: dict[str, record] for name, record in records.items()}  # type: ignore[valid-type]
    return type(model.__name__, (model,), {"__annotations__": tables, "__module__": __name__})
