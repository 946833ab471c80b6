"""What the scripted user understands: all that oracles say, much of what others say; nothing ever breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.domains.wording import PHRASES, Request, ask, want
from tau2_exp.types import Role
from tau2_exp.users.understanding import MODES, understand

PERMISSIONS = ("sms", "storage", "phone", "network")
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
APN = st.fixed_dictionaries(
    {"apn_name": st.sampled_from(["internet", "broken"])},
    optional={
        "mmsc_url": st.sampled_from([None, "http://mms.carrier.com/mms/wapenc"]),
        "mms_port": st.integers(1, 9999),
    },
)
ARGUMENTS = {
    "app_name": NAMES,
    "permission": NAMES,
    "mode": st.sampled_from(MODES),
    "apn_settings": APN,
}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tool = draw(st.sampled_from(sorted(PHRASES)))
    wanted = draw(st.sampled_from([None, "ON", "OFF"])) if tool.startswith("toggle_") else None
    arguments = {name: draw(values) for name, values in ARGUMENTS.items() if f"{{{name}}}" in PHRASES[tool]}
    return want(tool, wanted, **arguments)


@given(requests())
def test_every_request_is_understood_as_it_was_meant(request: Request) -> None:
    assert understand(ask(request)) == [request]


@given(st.lists(requests(), min_size=2, max_size=4))
def test_several_requests_are_understood_in_their_order(several: list[Request]) -> None:
    assert understand(ask(*several)) == several


def test_two_settings_are_two_requests() -> None:
    several = [want("set_apn_settings", apn_settings={"apn_name": name}) for name in ("internet", "broken")]
    assert understand(ask(*several)) == several


WORDS = [
    "set",
    "network",
    "the",
    "app",
    "permission",
    "turn",
    "Wi-Fi",
    "{",
    "off",
    "grant",
    "APN",
    "(",
    "check_app_status",
]


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_text_breaks_the_user(text: str) -> None:
    for request in understand(text):
        assert request.call.name in PHRASES
        assert request.call.requestor is Role.USER


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Could you open Settings and turn off Airplane Mode?", [want("toggle_airplane_mode", "OFF")]),
        ("Please check your status bar and tell me what you see.", [want("check_status_bar")]),
        ("Is airplane mode on?", [want("check_network_status")]),
        ("Do you have signal now?", [want("check_status_bar")]),
        ("Is Wi-Fi calling enabled on your phone?", [want("check_wifi_calling_status")]),
        ("Can you try sending an MMS now?", [want("can_send_mms")]),
        ("I have enabled roaming on your line. Please reboot your device.", [want("reboot_device")]),
        ("Please remove and reinsert your SIM card.", [want("reseat_sim_card")]),
        (
            "Turn off Data Saver and disconnect from the VPN, then run a speed test.",
            [want("toggle_data_saver_mode", "OFF"), want("disconnect_vpn"), want("run_speed_test")],
        ),
        ("Enable mobile data and data roaming.", [want("toggle_data", "ON"), want("toggle_roaming", "ON")]),
        ("Please change your network mode to 5G.", [want("set_network_mode_preference", mode="4g_5g_preferred")]),
        (
            "Please grant the storage and SMS permissions to the messaging app.",
            [
                want("grant_app_permission", app_name="messaging", permission="storage"),
                want("grant_app_permission", app_name="messaging", permission="sms"),
            ],
        ),
        ("Which permissions does the messaging app have?", [want("check_app_permissions", app_name="messaging")]),
        ("Run check_app_status(app_name='browser').", [want("check_app_status", app_name="browser")]),
        (
            'Use grant_app_permission(app_name="messaging", permission="sms")',
            [want("grant_app_permission", app_name="messaging", permission="sms")],
        ),
        ("Please use set_network_mode_preference with 3g_only.", [want("set_network_mode_preference", mode="3g_only")]),
    ],
)
def test_looser_words_are_understood(said: str, meant: list[Request]) -> None:
    assert understand(said) == meant


@pytest.mark.parametrize("tool", [tool for tool, words in PHRASES.items() if "{" not in words])
def test_a_tool_is_understood_by_its_own_name(tool: str) -> None:
    assert understand(f"Please run {tool}.") == [want(tool)]


@pytest.mark.parametrize(
    "said",
    [
        "May I enable roaming on your line?",
        "I will restart your line now.",
        "Shall I send you a payment request?",
        "Your data is used up. May I refuel 2.0 GB for $4.00?",
        "How are you today?",
    ],
)
def test_what_the_agent_does_itself_is_not_asked_of_the_user(said: str) -> None:
    assert understand(said) == []
