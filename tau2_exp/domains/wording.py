"""What can be asked of a telecom customer: each of the user's tools, and how an agent asks for it in plain English.

Agents without a model write from this table (`ask`); the scripted user reads with it (`users/understanding.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from string import Formatter

from tau2_exp.types import Role, ToolCall


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the user. `wanted` is the position of a switch ("ON" or "OFF"), where one is requested."""

    call: ToolCall
    wanted: str | None = None


# `{name}` stands for an argument; "toggle X" is also said "turn X on" and "turn X off".
PHRASES = {
    "check_status_bar": "check the status bar",
    "check_network_status": "check the network status",
    "check_network_mode_preference": "check the network mode",
    "check_sim_status": "check the SIM card",
    "check_data_restriction_status": "check the data restrictions",
    "check_apn_settings": "check the APN settings",
    "check_wifi_status": "check the Wi-Fi",
    "check_wifi_calling_status": "check Wi-Fi Calling",
    "check_vpn_status": "check the VPN",
    "check_installed_apps": "check the installed apps",
    "check_app_status": "check the status of the {app_name} app",
    "check_app_permissions": "check the permissions of the {app_name} app",
    "check_payment_request": "check the payment request",
    "run_speed_test": "run a speed test",
    "can_send_mms": "try to send an MMS",
    "toggle_airplane_mode": "toggle Airplane Mode",
    "toggle_data": "toggle Mobile Data",
    "toggle_roaming": "toggle Data Roaming",
    "toggle_data_saver_mode": "toggle Data Saver",
    "toggle_wifi": "toggle the Wi-Fi",
    "toggle_wifi_calling": "toggle Wi-Fi Calling",
    "connect_vpn": "connect the VPN",
    "disconnect_vpn": "disconnect the VPN",
    "set_network_mode_preference": "set the network mode to {mode}",
    "set_apn_settings": "set the APN settings to {apn_settings}",
    "reset_apn_settings": "reset the APN settings",
    "reseat_sim_card": "reseat the SIM card",
    "grant_app_permission": "grant the {app_name} app the {permission} permission",
    "make_payment": "pay the bill",
    "reboot_device": "reboot the phone",
}


def want(tool: str, wanted: str | None = None, **arguments: object) -> Request:
    """A request for one of the user's tools; `wanted` names the position of a switch."""
    return Request(ToolCall(tool, dict(arguments), Role.USER), wanted)


def is_worded(tool: str, arguments: Collection[str]) -> bool:
    """Whether PHRASES has the tool with these arguments; one of another domain may have its name, and others."""
    return tool in PHRASES and {name for _, name, *_ in Formatter().parse(PHRASES[tool]) if name} == set(arguments)


def phrase(request: Request) -> str:
    """The words for one request; a tool of another domain is asked for as a call: `use NAME({arguments})`."""
    if not request.wanted and not is_worded(request.call.name, request.call.arguments):
        return f"use {request.call.name}({json.dumps(request.call.arguments)})"
    words = PHRASES[request.call.name]
    if request.wanted:
        return f"turn {words.removeprefix('toggle ')} {request.wanted.lower()}"
    arguments = request.call.arguments.items()
    return words.format(**{name: v if isinstance(v, str) else json.dumps(v) for name, v in arguments})


def ask(*requests: Request) -> str:
    """A message that asks the user for one or several things, in order."""
    return f"Please {', then '.join(map(phrase, requests))}."
