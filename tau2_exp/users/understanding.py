"""What an agent asks the customer to do: the wording table read backwards, and looser ways to say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from tau2_exp.domains.wording import PHRASES, Request, is_worded, want
from tau2_exp.types import Role, Schema, ToolCall

Reading = tuple[int, int, list[Request]]  # where in the sentence it stands, and what it asks for

MODES = ("4g_5g_preferred", "4g_only", "3g_only", "2g_only")
APP_NAMES = {"messages": "messaging", "message": "messaging", "texting": "messaging", "mms": "messaging"}
NO_APP_NAMES = {"the", "your", "this", "that", "an", "each", "default", "any", "which"}

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
    "check_status_bar": r"status bar|signal bars?|(?:have|any|no) (?:signal|service)|service (?:is|was) back",
    "check_network_status": r"network (?:connection )?status|network connection|cellular (?:service|connection|network)"
    r"|signal strength|airplane mode|(?:mobile|cellular) data|roaming",
    "check_network_mode_preference": r"network mode(?: preference)?|preferred network(?: mode| type)?"
    r"|network preference",
    "check_sim_status": r"sim(?: card)?(?: status)?",
    "check_data_restriction_status": r"data[- ](?:restrictions?|saver)(?: mode| status| settings?)*",
    "check_apn_settings": r"apn(?: settings?)?|mmsc(?: url)?",
    "check_wifi_calling_status": r"wi-?fi calling(?: status)?",
    "check_wifi_status": r"wi-?fi(?: status| connection)?",
    "check_vpn_status": r"vpn(?: status| connection)?",
    "check_installed_apps": r"installed apps|apps (?:that )?are installed|list of apps",
    "check_payment_request": r"payment requests?",
    "run_speed_test": r"speed ?test|internet speed|data speed|connection speed",
    "can_send_mms": r"send(?:ing)?(?: and receive)?(?: an?| any)?(?: test)? (?:mms|picture|photo|multimedia)"
    r"(?: messages?)?|mms (?:works?|is working|again)",
}

# Deeds without arguments that are named by a verb of their own.
DEEDS = {
    "reseat_sim_card": r"re-?(?:spec|insert)\w*[^.?!]{0,20}sim(?: card)?"
    r"|(?:remove|take out)[^.?!]{0,30}sim(?: card)?[^.?!]{0,30}(?:insert|put)\w*(?: it)?(?: back)?",
    "reset_apn_settings": r"(?:reset|restore)\w*[^.?!,]{0,20}apn(?: settings?)?(?: to (?:the |their )?defaults?)?",
    "reboot_device": r"(?:reboot|restart)\w*(?: (?:your|the|my|this|mobile))*(?: (?:phone|device))?|power[- ]cycle",
    "make_payment": r"(?:make|complete|accept|proceed with)[^.?!,]{0,20}payment(?: request)?"
    r"|pay (?:the|your|this|that|it)\b[^.?!,]{0,20}(?:bill)?",
}

_ON, _OFF = r"\b(?:on|enable|activate)\b", r"\b(?:off|disable|deactivate)\b"
_NAMES = "|".join(SWITCHES.values())
_SWITCH = re.compile(
    r"\b(?P<verb>(?:toggle|turn|switch|set|put|enable|disable|activate|deactivate)(?:\s+(?:on|off))?)"
    rf"\s+(?:(?:the|your|any|active|current|back)\s+)*(?P<names>(?:{_NAMES})"
    rf"(?:(?:,|,?\s+and)\s+(?:(?:the|your)\s+)?(?:{_NAMES}))*)"
    r"(?P<position>\s+(?:mode\s+|setting\s+|back\s+|to\s+){0,2}(?:on|off)\b)?",
    re.I,
)
_VPN = re.compile(
    r"\b(?P<verb>disconnect|connect)(?:\s+(?:from|to|the|your|any|active|a))*\s+vpn(?: connection)?", re.I
)
_MODE = re.compile(
    r"\b(?:set|change|switch|select|choose)\b[^.?!;]{0,40}?\bnetwork\b[^.?!;]{0,40}?"
    rf"(?P<mode>{'|'.join(MODES)}|\b[2345]g\b(?:\W*5g\b)?)",
    re.I,
)
_GRANT = re.compile(
    r"\b(?:grant|give|allow|add|enable)\b[^.?!;]{0,80}?\bpermissions?(?: to [^.?!;,]{0,40}? app\b)?", re.I
)
_PERMISSION = re.compile(r"(?<!your )\b(sms|storage|phone|network|camera|location|contacts|microphone)\b", re.I)
_APP = re.compile(r"[\"'`]?\b([\w-]+)[\"'`]? app(?:lication)?(?:'s)?\b|\bapp(?:lication)? [\"'`]([\w-]+)[\"'`]", re.I)
_APP_ALONE = re.compile(r"\b(messaging|messages|browser)\b", re.I)
_ABOUT_APP = {
    "check_app_permissions": re.compile(r"\bpermissions?\b(?: (?:of|for|on|that)\b[^.?!;,]{0,40}?\bapp\b)?", re.I),
    "check_app_status": re.compile(r"\bstatus (?:of|for)\b[^.?!;,]{0,40}?\bapp\b|\bapp(?:lication)? status\b", re.I),
}
_TOOL = re.compile(rf"\b({'|'.join(sorted(PHRASES, key=len, reverse=True))})\b(?:\((?P<arguments>[^()]*)\))?")
_LOOK = re.compile(
    r"\b(?:check|recheck|re-?run|run|try|retry|test|look|see|tell|show|view|verify|confirm|what|what's|which|whether"
    r"|if|is|are|does|do|did|can you|perform|take|report|open|list)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.?!;])\s+|\n+")
_AGENT_ACTS = re.compile(
    r"^\W*(?:(?:okay|ok|now|then|first|next|so|and|great|thanks|thank you)\W+)*"
    r"(?:(?:shall |may |should |can |could |do you want |would you like )?(?:i|we|me)\b|let me\b)",
    re.I,
)
_BUT_YOU = re.compile(r"\b(?:need|ask|want|like|have) you\b|\bplease\b|\b(?:can|could) you\b", re.I)


def understand(text: str) -> list[Request]:
    """What the text asks its hearer to do, in order; empty where it asks for nothing known. Never raises."""
    requests: list[Request] = []
    for sentence in _SENTENCE.split(text):
        if not _AGENT_ACTS.match(sentence) or _BUT_YOU.search(sentence):
            requests.extend(_in_sentence(sentence))
    return requests


def named_calls(text: str, tools: Mapping[str, Schema]) -> list[Request]:
    """The calls that the text writes out, `NAME({arguments})`, and that no wording is known for.

    `tools` are the user's, by their names. Of a tool that has a wording, and other arguments than that, a call has to
    fit the schema: else the words around it say what is meant.
    """
    found = []
    for match in re.finditer(r"\b(\w+)\(\s*", text):
        if match[1] not in tools:
            continue
        with suppress(ValueError):
            nothing = text[match.end() :].startswith(")")
            arguments, _ = ({}, 0) if nothing else json.JSONDecoder().raw_decode(text, match.end())
            if not isinstance(arguments, dict) or is_worded(match[1], arguments):
                continue
            if match[1] not in PHRASES or _fits(arguments, tools[match[1]]):
                found.append(Request(ToolCall(match[1], arguments, Role.USER)))
    return found


def _fits(arguments: Mapping[str, object], schema: Schema) -> bool:
    """Whether a tool takes these arguments."""
    parameters = schema["function"]["parameters"]
    return set(parameters.get("required", ())) <= set(arguments) <= set(parameters.get("properties", {}))


def _in_sentence(sentence: str) -> list[Request]:
    """Of overlapping readings the one that begins first is kept, and of those the longest."""
    requests, end = [], 0
    for start, stop, asked in sorted(_readings(sentence), key=lambda reading: (reading[0], -reading[1])):
        if start >= end and asked:
            requests.extend(asked)
            end = stop
    return requests


def _readings(sentence: str) -> Iterator[Reading]:
    for pattern, tool, wanted in _TABLE:
        for match in pattern.finditer(sentence):
            yield *match.span(), _from_table(tool, wanted, match)
    for match in _TOOL.finditer(sentence):
        yield *match.span(), _from_tool_name(match, sentence)
    for match in _SWITCH.finditer(sentence):
        yield *match.span(), _switches(match)
    for match in _VPN.finditer(sentence):
        yield *match.span(), [want(f"{match['verb'].lower()}_vpn")]
    for match in _MODE.finditer(sentence):
        yield *match.span(), [want("set_network_mode_preference", mode=_mode(match["mode"].lower()))]
    for match in _GRANT.finditer(sentence):
        yield *match.span(), _grants(match.group(), _app(match.group()) or _app(sentence))
    for tool, pattern in _DEEDS.items():
        for match in pattern.finditer(sentence):
            yield *match.span(), [want(tool)]
    look = _LOOK.search(sentence)
    if look:
        yield from _checks(sentence, look.end())


def _checks(sentence: str, start: int) -> Iterator[Reading]:
    for tool, pattern in _ABOUT_APP.items():
        for match in pattern.finditer(sentence, start):
            app = _app(match.group()) or _app(sentence)
            yield *match.span(), [want(tool, app_name=app)] if app else []
    for tool, pattern in _CHECKS.items():
        for match in pattern.finditer(sentence, start):
            yield *match.span(), [want(tool)]


def _table() -> Iterator[tuple[re.Pattern[str], str, str | None]]:
    """The wording table as patterns: what `ask` writes is read back to the letter."""
    values = {"apn_settings": r"\{[^{}]{0,400}\}"}
    for tool, words in PHRASES.items():
        pattern = re.sub(
            r"\\\{(\w+)\\\}", lambda m: f"(?P<{m[1]}>{values.get(m[1], '[A-Za-z0-9_-]+')})", re.escape(words)
        )
        yield re.compile(rf"\b{pattern}(?!\w)", re.I), tool, None
        if words.startswith("toggle "):
            name = re.escape(words.removeprefix("toggle "))
            yield from ((re.compile(rf"\bturn {name} {p}\b", re.I), tool, p.upper()) for p in ("on", "off"))


def _compiled(patterns: dict[str, str]) -> dict[str, re.Pattern[str]]:
    return {tool: re.compile(rf"\b(?:{pattern})\b", re.I) for tool, pattern in patterns.items()}


_TABLE, _CHECKS, _DEEDS = tuple(_table()), _compiled(CHECKS), _compiled(DEEDS)


def _from_table(tool: str, wanted: str | None, match: re.Match[str]) -> list[Request]:
    arguments: dict[str, object] = {name: value.lower() for name, value in match.groupdict().items()}
    if tool == "set_network_mode_preference" and arguments["mode"] not in MODES:
        return []
    if tool == "set_apn_settings":
        return _apn(match["apn_settings"])
    return [want(tool, wanted, **arguments)]


def _from_tool_name(match: re.Match[str], sentence: str) -> list[Request]:
    """A tool named as such: its arguments in brackets, or anywhere in the sentence."""
    tool, given = match[1], match["arguments"] or sentence
    quoted = re.findall(r"[\"']([\w-]+)[\"']", given)
    if tool == "grant_app_permission":
        return _grants(given, _app(given) or _app(sentence))
    if tool in _ABOUT_APP:
        app = _app(given) or (quoted[0] if quoted else None)
        return [want(tool, app_name=app)] if app else []
    if tool == "set_network_mode_preference":
        modes = re.findall("|".join(MODES), given)
        return [want(tool, mode=modes[0])] if modes else []
    if tool == "set_apn_settings":
        settings = re.search(r"\{.*\}", given)
        return _apn(settings.group()) if settings else []
    return [want(tool)]


def _switches(match: re.Match[str]) -> list[Request]:
    said = f"{match['verb']} {match['position'] or ''}"
    wanted = "ON" if re.search(_ON, said, re.I) else "OFF" if re.search(_OFF, said, re.I) else None
    if wanted is None and not said.lower().startswith("toggle"):
        return []
    requests = []
    for name in re.finditer(_NAMES, match["names"], re.I):
        tool = next(t for t, names in SWITCHES.items() if re.fullmatch(names, name.group(), re.I))
        if tool == "vpn":
            requests.append(want("connect_vpn" if wanted == "ON" else "disconnect_vpn"))
        else:
            requests.append(want(tool, wanted))
    return requests


def _mode(words: str) -> str:
    if words in MODES:
        return words
    return MODES[0] if "5g" in words else f"{words[0]}g_only"


def _apn(settings: str) -> list[Request]:
    try:
        return [want("set_apn_settings", apn_settings=json.loads(settings))]
    except ValueError:
        return []


def _grants(words: str, app: str | None) -> list[Request]:
    named = dict.fromkeys(m.lower() for m in _PERMISSION.findall(words)) if app else {}
    return [want("grant_app_permission", app_name=app, permission=permission) for permission in named]


def _app(text: str) -> str | None:
    for match in _APP.finditer(text):
        name = (match[1] or match[2]).lower()
        if name not in NO_APP_NAMES:
            return APP_NAMES.get(name, name)
    alone = _APP_ALONE.search(text)
    return APP_NAMES.get(alone[1].lower(), alone[1].lower()) if alone else None
