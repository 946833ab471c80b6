"""What can be asked of a telecom customer, in plain English and as a tool call: one table, read in both directions.

`ask` writes what the scripted user understands; `understand` reads it, and looser wordings of it, back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tau2_exp.types import Role, ToolCall


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of the user. `wanted` is the switch position ("ON" or "OFF") that was asked for, if one was."""

    call: ToolCall
    wanted: str | None = None


# Tool → how an agent asks for it. `{name}` stands for an argument.
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

# Switch → its names; the longer ones first, since "Wi-Fi" also begins "Wi-Fi Calling".
SWITCHES = {
    "toggle_airplane_mode": r"(?:air|aero)plane mode|flight mode",
    "toggle_data_saver_mode": r"data[- ]saver(?: mode)?",
    "toggle_roaming": r"(?:data )?roaming",
    "toggle_data": r"(?:mobile|cellular) data|data connection",
    "toggle_wifi_calling": r"wi-?fi calling",
    "toggle_wifi": r"wi-?fi",
    "vpn": r"vpn(?: connection)?|virtual private network",
}

# Check → the thing looked at; a verb of looking must stand before it in the same sentence.
CHECKS = {
    "check_status_bar": r"status bar|signal bars?|(?:have|any|no) (?:signal|service)|service (?:is|was) (?:back|restored)",
    "check_network_status": r"network (?:connection )?status|network connection|cellular (?:service|connection|network)|"
    r"signal strength|airplane mode|(?:mobile|cellular) data|roaming",
    "check_network_mode_preference": r"network mode(?: preference)?|preferred network(?: mode| type)?|network preference",
    "check_sim_status": r"sim(?: card)?(?: status)?",
    "check_data_restriction_status": r"data[- ](?:restrictions?|saver)(?: mode| status| settings?)*",
    "check_apn_settings": r"apn(?: settings?)?|mmsc(?: url)?",
    "check_wifi_calling_status": r"wi-?fi calling(?: status)?",
    "check_wifi_status": r"wi-?fi(?: status| connection)?",
    "check_vpn_status": r"vpn(?: status| connection)?",
    "check_installed_apps": r"installed apps|apps (?:that )?are installed|list of apps",
    "check_payment_request": r"payment requests?",
    "run_speed_test": r"speed ?test|internet speed|data speed|connection speed",
    "can_send_mms": r"send(?:ing)?(?: and receive)?(?: an?| a test| any)?(?: test)? ?(?:mms|picture|photo|multimedia)"
    r"(?: messages?)?|mms (?:works?|is working|again)",
}

# Deeds without arguments that are named by a verb of their own.
DEEDS = {
    "reseat_sim_card": r"re-?(?:seat|insert)\w*[^.?!]{0,20}sim(?: card)?|"
    r"(?:remove|take out)[^.?!]{0,30}sim(?: card)?[^.?!]{0,30}(?:insert|put)\w*(?: it)?(?: back)?",
    "reset_apn_settings": r"(?:reset|restore)\w*[^.?!,]{0,20}apn(?: settings?)?(?: to (?:the |their |its )?defaults?)?",
    "reboot_device": r"(?:reboot|restart)\w*(?: (?:your|the|my|this|mobile))*(?: (?:phone|device))?|power[- ]cycle",
    "make_payment": r"(?:make|complete|accept|proceed with)[^.?!,]{0,20}payment(?: request)?|pay (?:the|your|this|that|it)\b"
    r"[^.?!,]{0,20}(?:bill)?",
}

MODES = ("4g_5g_preferred", "4g_only", "3g_only", "2g_only")
PERMISSIONS = ("sms", "storage", "phone", "network", "camera", "location", "contacts", "microphone")
APP_NAMES = {"messages": "messaging", "message": "messaging", "texting": "messaging", "mms": "messaging"}

_ON, _OFF = r"on|enable\w*|activate\w*", r"off|disable\w*|deactivate\w*"
_LOOK = re.compile(
    r"\b(?:check|recheck|re-?run|run|try|retry|test|look|see|tell|show|view|verify|confirm|what|what's|which|whether|if|is|"
    r"are|does|do|did|can you|are you able|perform|take|report|open|list)\b",
    re.I,
)
_SWITCH_NAME = "|".join(SWITCHES.values())
_SWITCH = re.compile(
    rf"\b(?P<verb>toggle|turn|switch|set|put|enable|disable|activate|deactivate)\b(?:\s+(?P<before>on|off)\b)?"
    rf"\s+(?:(?:the|your|any|active|current|back|it)\s+)*(?P<names>(?:{_SWITCH_NAME})"
    rf"(?:(?:,|\s+and|\s*,\s*and)\s+(?:(?:the|your)\s+)?(?:{_SWITCH_NAME}))*)"
    rf"(?:\s+(?:mode\s+|setting\s+|back\s+|to\s+)*(?P<after>on|off)\b)?",
    re.I,
)
_VPN = re.compile(
    r"\b(?P<verb>disconnect|connect)\b(?:\s+(?:from|to|the|your|any|active|a))*\s+vpn(?: connection)?", re.I
)
_SET_MODE = re.compile(
    r"\b(?:set|change|switch|select|choose)\b[^.?!;]*?\bnetwork\b(?: (?:mode|preference|type))*"
    rf"[^.?!;]*?(?P<mode>{'|'.join(MODES)}|\b[2345]g\b(?:[^.?!;,]*?\b[45]g\b)?(?: only| preferred)?)",
    re.I,
)
_SET_APN = re.compile(r"\bset\b[^.?!;{]*?\bapn settings?\b[^.?!;{]*?(?P<settings>\{.*\})", re.I)
_GRANT = re.compile(r"\b(?:grant|give|allow|add|enable)\b[^.?!;]*?\bpermissions?(?: to [^.?!;,]*? app\b)?", re.I)
_PERMISSION = re.compile(rf"(?<!your )\b({'|'.join(PERMISSIONS)})\b", re.I)
_APP_PERMISSIONS = re.compile(r"\bpermissions?\b(?: (?:of|for|on|that)\b[^.?!;,]*?\bapp\b)?", re.I)
_APP_STATUS = re.compile(r"\bstatus (?:of|for)\b[^.?!;,]*?\bapp\b|\bapp(?:lication)? status\b", re.I)
_APP = re.compile(r"[\"'`]?\b([\w-]+)[\"'`]? app(?:lication)?(?:'s)?\b|\bapp(?:lication)? [\"'`]([\w-]+)[\"'`]", re.I)
_APP_WORD = re.compile(r"\b(messaging|messages|browser)\b", re.I)
_TOOL_NAME = re.compile(rf"\b({'|'.join(sorted(PHRASES, key=len, reverse=True))})\b(?:\((?P<arguments>[^()]*)\))?")
_SENTENCE = re.compile(r"(?<=[.?!;])\s+|\n+")
_AGENT_ACTS = re.compile(
    r"^\W*(?:(?:okay|ok|now|then|first|next|so|and|great|thanks|thank you)\W+)*"
    r"(?:i|i'll|i've|i'm|we|we'll|we've|shall i|may i|should i|can i|could i|do you want me|would you like me|let me)\b",
    re.I,
)
_BUT_YOU = re.compile(r"\b(?:need|ask|want|like|have) you\b|\bplease\b|\b(?:can|could) you\b", re.I)


def phrase(call: ToolCall, wanted: str | None = None) -> str:
    """The words for one user tool call; `wanted` names the position of a switch ("ON", "OFF"). KeyError: no such tool."""
    words = PHRASES[call.name]
    if wanted and words.startswith("toggle "):
        return f"turn {words.removeprefix('toggle ')} {wanted.lower()}"
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in call.arguments.items()}
    return words.format(**values)


def ask(*requests: Request) -> str:
    """A message that asks the user for one or several things, in order."""
    return f"Please {', then '.join(phrase(r.call, r.wanted) for r in requests)}."


def want(tool: str, wanted: str | None = None, **arguments: object) -> Request:
    return Request(ToolCall(tool, dict(arguments), Role.USER), wanted)


def understand(text: str) -> list[Request]:
    """What the text asks its reader to do, in order; empty where it asks for nothing known. Never raises."""
    requests: list[Request] = []
    for sentence in _SENTENCE.split(text):
        if not _AGENT_ACTS.match(sentence) or _BUT_YOU.search(sentence):
            requests.extend(_in_sentence(sentence))
    return requests


def _in_sentence(sentence: str) -> list[Request]:
    """Of overlapping readings the one that begins first is kept, and of those the longest."""
    found = sorted(_readings(sentence), key=lambda reading: (reading[0], -reading[1]))
    requests, end = [], 0
    for start, stop, asked in found:
        if start >= end:
            requests.extend(asked)
            end = stop
    return requests


def _readings(sentence: str) -> Iterator[tuple[int, int, list[Request]]]:
    """(start, end, requests) of everything that could be meant."""
    for match in _TOOL_NAME.finditer(sentence):
        yield *match.span(), _from_tool_name(match, sentence)
    for match in _SWITCH.finditer(sentence):
        yield *match.span(), _switches(match)
    for match in _VPN.finditer(sentence):
        yield *match.span(), [want(f"{match['verb'].lower()}_vpn")]
    for match in _SET_MODE.finditer(sentence):
        yield *match.span(), [want("set_network_mode_preference", mode=_mode(match["mode"]))]
    for match in _SET_APN.finditer(sentence):
        yield *match.span(), _apn(match["settings"])
    for match in _GRANT.finditer(sentence):
        yield *match.span(), _grants(match.group(), sentence)
    for tool, pattern in DEEDS.items():
        for match in re.finditer(rf"\b(?:{pattern})", sentence, re.I):
            yield *match.span(), [want(tool)]
    look = _LOOK.search(sentence)
    if look:
        yield from _checks(sentence, look.end())


def _checks(sentence: str, start: int) -> Iterator[tuple[int, int, list[Request]]]:
    app = _app(sentence)
    if app:
        for tool, pattern in (("check_app_permissions", _APP_PERMISSIONS), ("check_app_status", _APP_STATUS)):
            for match in pattern.finditer(sentence, start):
                yield *match.span(), [want(tool, app_name=app)]
    for tool, things in CHECKS.items():
        for match in re.finditer(rf"\b(?:{things})\b", sentence, re.I):
            if match.start() >= start:
                yield *match.span(), [want(tool)]


def _switches(match: re.Match[str]) -> list[Request]:
    verb = " ".join(match[g] for g in ("verb", "before", "after") if match[g])
    wanted = "ON" if re.search(rf"\b(?:{_ON})\b", verb, re.I) else "OFF" if re.search(_OFF, verb, re.I) else None
    if wanted is None and match["verb"].lower() != "toggle":
        return []
    requests = []
    for name in re.finditer(_SWITCH_NAME, match["names"], re.I):
        tool = next(t for t, names in SWITCHES.items() if re.fullmatch(names, name.group(), re.I))
        if tool == "vpn":
            requests.append(want("connect_vpn" if wanted == "ON" else "disconnect_vpn"))
        else:
            requests.append(want(tool, wanted))
    return requests


def _mode(words: str) -> str:
    words = words.lower()
    if words in MODES:
        return words
    return MODES[0] if "5g" in words else f"{words[0]}g_only"


def _apn(settings: str) -> list[Request]:
    try:
        values = json.loads(settings)
    except ValueError:
        return []
    return [want("set_apn_settings", apn_settings=values)]


def _grants(words: str, sentence: str) -> list[Request]:
    app = _app(words) or _app(sentence)
    named = dict.fromkeys(m.lower() for m in _PERMISSION.findall(words)) if app else {}
    return [want("grant_app_permission", app_name=app, permission=permission) for permission in named]


def _app(text: str) -> str | None:
    for match in _APP.finditer(text):
        name = (match[1] or match[2]).lower()
        if name not in ("the", "your", "this", "that", "an", "each", "default", "any", "which"):
            return APP_NAMES.get(name, name)
    match = _APP_WORD.search(text)
    return APP_NAMES.get(match[1].lower(), match[1].lower()) if match else None


def _from_tool_name(match: re.Match[str], sentence: str) -> list[Request]:
    """A tool named as such: its arguments in brackets, or anywhere in the sentence."""
    tool = match[1]
    given = match["arguments"] or sentence
    if tool == "grant_app_permission":
        return _grants(given, sentence)
    if tool in ("check_app_status", "check_app_permissions"):
        app = _app(given) or next(iter(re.findall(r"[\"']([\w-]+)[\"']", given)), None)
        return [want(tool, app_name=app)] if app else []
    if tool == "set_network_mode_preference":
        modes = re.findall("|".join(MODES), given)
        return [want(tool, mode=modes[0])] if modes else []
    if tool == "set_apn_settings":
        settings = re.search(r"\{.*\}", given)
        return _apn(settings.group()) if settings else []
    return [want(tool)]
